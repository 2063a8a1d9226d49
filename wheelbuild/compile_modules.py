"""Stand-alone: compiles a package's sources with the Python that runs it, for `zipapp`.

`PYTHONHASHSEED=0 python -S compile_modules.py SOURCES OUT`; SOURCES holds the package.
"""

import importlib.util
import marshal
import sys
from pathlib import Path


def compile_package(sources: Path) -> bytes:
    """`(magic number, {full name: (is a package, marshalled code)})`, marshalled."""
    modules = {}
    for path in sorted(sources.rglob("*.py")):
        relative = path.relative_to(sources)
        package = path.name == "__init__.py"
        name = ".".join((relative.parent if package else relative.with_suffix("")).parts)
        code = compile(path.read_bytes(), relative.as_posix(), "exec", dont_inherit=True)
        modules[name] = (package, marshal.dumps(code))
    return marshal.dumps((importlib.util.MAGIC_NUMBER, modules))


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(compile_package(Path(sys.argv[1])))
