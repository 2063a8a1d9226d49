"""In place of a compiled module that a Python-only install lacks and that nothing stands for."""

raise ModuleNotFoundError(
    f"{__name__} is a compiled module, and nothing stands for it in a Python-only install: run "
    f"apex-install --at-least compiled --require {__name__} where it finds a wheel or a compiler",
    name=__name__,
)
