"""Stand-alone: compiles a package's sources with the Python that runs it, for `zipapp`.

`PYTHONHASHSEED=0 python -S compile_modules.py SOURCES OUT`; SOURCES holds the package.
"""

import importlib.util
import marshal
import sys
import zlib
from pathlib import Path


def compile_package(sources: Path) -> bytes:
    """`(magic number, {full name: (is a package, code)})`, marshalled.

    Each code is marshalled and deflated by itself: a start inflates the modules that it imports,
    a fifth of all. Docstrings are left out.
    """
    modules = {}
    for path in sorted(sources.rglob("*.py")):
        relative = path.relative_to(sources)
        package = path.name == "__init__.py"
        name = ".".join((relative.parent if package else relative.with_suffix("")).parts)
        code = compile(
            path.read_bytes(), relative.as_posix(), "exec", dont_inherit=True, optimize=2
        )
        modules[name] = (package, zlib.compress(marshal.dumps(code), 9))
    return marshal.dumps((importlib.util.MAGIC_NUMBER, modules))


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(compile_package(Path(sys.argv[1])))
