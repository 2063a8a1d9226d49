"""The `__main__.py` of apex-install.pyz. Short, for Python compiles it anew at each start.

It takes our modules compiled, if this archive was packed for this very Python; runs; and leaves
without taking the interpreter apart, which would cost a tenth of a start. Runs on Python 3.9.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zipimport import zipimporter

ZIP: zipimporter = __loader__  # type: ignore[name-defined]  # this file runs from a zip alone


def use_compiled() -> None:
    """Put the finder first that `compiled_modules.py` defines, itself compiled."""
    from _frozen_importlib_external import MAGIC_NUMBER  # noqa: PLC0415 - not in every start's way
    from marshal import loads  # noqa: PLC0415
    from zlib import decompress  # noqa: PLC0415

    try:
        data = ZIP.get_data(f"compiled/{sys.implementation.cache_tag}")
    except OSError:
        return
    magic, modules = loads(data)  # noqa: S302 - as good as the zip it is in
    if magic == MAGIC_NUMBER:
        finder: dict[str, object] = {"__name__": "compiled_modules"}
        exec(loads(decompress(modules["compiled_modules"][1])), finder)  # noqa: S102, S302
        sys.meta_path.insert(0, finder["CompiledModules"](modules, ZIP))  # type: ignore[operator]


def leave(code: int) -> None:
    """Exit; where the last words cannot be written, as Python exits."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    gc.disable()  # so short a run leaves no garbage worth looking for
    use_compiled()
    from apex_installer.cli import main

    leave(main())
