"""The `__main__.py` of apex-install.pyz: our modules without compiling their sources at each start.

Python keeps no bytecode of what it imports from a zip. So the archive holds the compiled modules of
several Pythons, one member for each; a Python that is not among them compiles the sources, which
are in the archive too. Runs on Python 3.9, and imports only what our modules load anyway.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery would cost milliseconds
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.abc import Loader
    from types import ModuleType
    from zipimport import zipimporter

_ZIP: zipimporter = __loader__  # type: ignore[name-defined]  # this file runs from a zip alone


class CompiledModules:
    """Finder and loader (PEP 451) over `{full name: (is a package, marshalled code)}`."""

    def __init__(self, modules: Mapping[str, tuple[bool, bytes]]) -> None:
        self.modules = modules

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - PEP 451's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if name not in self.modules:
            return None
        is_package = self.modules[name][0]
        loader = cast("Loader", self)
        spec = ModuleSpec(name, loader, origin=self.file_of(name), is_package=is_package)
        spec.has_location = True
        return spec

    def file_of(self, name: str) -> str:
        """Where the source lies: tracebacks and data files are found by it."""
        tail = "/__init__.py" if self.modules[name][0] else ".py"
        return _ZIP.archive + "/" + name.replace(".", "/") + tail

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002
        return None  # Python makes it its own way

    def exec_module(self, module: ModuleType) -> None:
        code = loads(self.modules[module.__name__][1])  # noqa: S302 - as good as the zip it is in
        exec(code, module.__dict__)  # noqa: S102 - what a loader is for

    def get_data(self, path: str) -> bytes:
        return _ZIP.get_data(path)

    def get_source(self, name: str) -> str:
        return _ZIP.get_data(self.file_of(name)).decode("utf-8")


def use_compiled() -> None:
    """Put the finder first, if this archive was packed for this very Python."""
    try:
        data = _ZIP.get_data(f"compiled/{sys.implementation.cache_tag}")
    except OSError:
        return
    magic, modules = loads(data)  # noqa: S302 - as good as the zip it is in
    if magic == MAGIC_NUMBER:
        sys.meta_path.insert(0, CompiledModules(modules))


if __name__ == "__main__":
    use_compiled()
    from apex_installer.cli import main

    sys.exit(main())
