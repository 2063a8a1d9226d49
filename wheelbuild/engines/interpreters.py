"""Other Pythons of this machine."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from wheelbuild.command import run_command
from wheelbuild.errors import CellError, CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator


def find_python(tag: str) -> Path:
    """The interpreter for `cp311`: our own, `python3.11`, pyenv's, setup-python's, in this order.

    CellError says what was looked for: a shim that exists and does not run does not count.
    """
    minor = tag.removeprefix("cp3").removesuffix("t")
    found = find_minor(f"3.{minor}", threaded=tag.endswith("t"))
    if found is None:
        raise CellError(
            f"{tag}: no python3.{minor} that runs on PATH, below pyenv or the tool cache: "
            f"install it, or name an interpreter that holds the cell's torch by --python"
        )
    return found


@cache
def find_minor(minor: str, *, threaded: bool = False) -> Path | None:
    """`3.11` -> the first interpreter of that release that runs, or None."""
    probe = (
        "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], "
        "bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
    )
    for candidate in _candidates(minor):
        try:
            answer = run_command([candidate, "-I", "-c", probe], time_limit=30).output
        except CommandError:
            continue
        if answer.split() == [minor, str(threaded)]:
            return Path(candidate)
    return None


def _candidates(minor: str) -> Iterator[str]:
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == minor:
        yield sys.executable
    on_path = shutil.which(f"python{minor}")
    if on_path:
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    tool_cache = Path(os.environ.get("RUNNER_TOOL_CACHE") or "/opt/hostedtoolcache")
    yield from map(str, sorted(pyenv.glob(f"versions/{minor}.*/bin/python"), reverse=True))
    yield from map(str, sorted(tool_cache.glob(f"Python/{minor}.*/*/bin/python"), reverse=True))
