"""What this machine has: a GPU, other Pythons, a place for what is downloaded once."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
SMALL = REPOSITORY / "tests/data/recipes/small"
"""Data folder of the project's own small package: `--data`."""


def farm_cache() -> Path:
    """`WHEELBUILD_CACHE`, else the project's `.cache`."""
    directory = Path(os.environ.get("WHEELBUILD_CACHE") or REPOSITORY / ".cache").absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def has_gpu() -> bool:
    """Whether a driver shows a device; nothing is loaded to find out."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


@cache
def find_interpreter(minor: str) -> str | None:
    """The first `python3.N` that runs and is that version; pyenv's shims often exist and do not."""
    for candidate in _candidates(minor):
        probe = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        try:
            answer = subprocess.run(
                [candidate, "-c", probe], capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if answer.stdout.strip() == minor:
            return candidate
    return None


def _candidates(minor: str) -> Iterator[str]:
    on_path = shutil.which(f"python{minor}")
    if on_path:
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    setup_python = Path(os.environ.get("RUNNER_TOOL_CACHE") or "/opt/hostedtoolcache")
    yield from map(str, sorted(pyenv.glob(f"versions/{minor}.*/bin/python")))
    yield from map(str, sorted(setup_python.glob(f"Python/{minor}.*/*/bin/python")))
