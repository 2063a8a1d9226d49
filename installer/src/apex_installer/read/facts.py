"""What an interpreter says of itself. Runs alone: an interpreter that is not ours gets this text.

Standard library only, and what Python 3.7 reads, for `python3` may be anything.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself costs 5 ms of every start
    from typing import Any

FIELDS = (
    "executable",
    "tag",
    "version",
    "platform",
    "extension_suffix",
    "path",
    "purelib",
    "libpython",
)


def read_facts(*, find_editable: bool) -> dict[str, Any]:
    """The fields of `model.environment.Interpreter`, as plain values.

    `find_editable` also asks the import system for torch where no folder of the path holds it,
    which finds editable installs (nothing is imported); their folder is put at the path's end.
    """
    import sysconfig  # noqa: PLC0415 - not needed to define the fields
    from importlib.machinery import EXTENSION_SUFFIXES  # noqa: PLC0415

    implementation = {"cpython": "cp", "pypy": "pp"}.get(sys.implementation.name, "py")
    threads = "t" if "t" in getattr(sys, "abiflags", "") else ""
    path = [os.path.abspath(entry) for entry in sys.path if entry]
    if find_editable and not any(
        os.path.isfile(os.path.join(entry, "torch", "version.py")) for entry in path
    ):
        path.extend(_editable_torch())
    return {
        "executable": sys.executable,
        "tag": "%s%d%d%s" % (implementation, *sys.version_info[:2], threads),  # noqa: UP031
        "version": "%d.%d.%d" % sys.version_info[:3],  # noqa: UP031
        "platform": "%s_%s" % (sys.platform, os.uname().machine),  # noqa: UP031
        "extension_suffix": EXTENSION_SUFFIXES[0],
        "path": path,
        "purelib": sysconfig.get_path("purelib"),
        "libpython": _libpython(),
    }


def _editable_torch() -> list[str]:
    from importlib.util import find_spec  # noqa: PLC0415

    try:
        spec = find_spec("torch")
    except (ImportError, ValueError, AttributeError):
        return []
    if spec is None or not spec.origin:
        return []
    return [os.path.dirname(os.path.dirname(os.path.abspath(spec.origin)))]


def _libpython() -> str | None:
    """The shared libpython that this process runs, or None."""
    try:
        with open("/proc/self/maps") as maps:
            for line in maps:
                found = line.rstrip("\n").partition("/")
                name = found[2].rpartition("/")[2]
                if name.startswith("libpython") and ".so" in name:
                    return "/" + found[2]
    except OSError:
        pass
    return None


if __name__ == "__main__":
    print(json.dumps(read_facts(find_editable=True)))  # noqa: T201
