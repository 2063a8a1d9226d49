"""Fresh environments that hold torch, made of links: nothing is copied, nothing is downloaded.

Links are per file, so that pip and uv, which replace files and never write into them, can do what
they like in one without touching another.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wheelbuild.command import run_command
from wheelbuild.errors import CellError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelbuild.engines.environment import BuildEnvironment


def clone_environment(
    environment: BuildEnvironment, *, into: Path, without: Iterable[str] = ()
) -> Path:
    """Make a virtual environment with the same packages and return its interpreter; about 2 s.

    `without`: import names and distributions that are left out, the one to be installed above all.
    """
    source = Path(environment.torch.directory).parent
    run_command([environment.interpreter.executable, "-m", "venv", "--without-pip", into])
    targets = sorted(into.glob("lib/python3*/site-packages"))
    if not targets:
        raise CellError(f"{into}: the new virtual environment has no site-packages")
    left_out = tuple(f"{name}{mark}" for name in without for mark in ("", "-", "."))
    for entry in sorted(source.iterdir()):
        if entry.name != "__pycache__" and not _is_left_out(entry.name, left_out):
            _link(entry, targets[0] / entry.name)
    return into / "bin" / "python"


def _is_left_out(name: str, left_out: tuple[str, ...]) -> bool:
    return name in left_out or name.startswith(tuple(mark for mark in left_out if mark[-1] in "-."))


def _link(source: Path, target: Path) -> None:
    if not source.is_dir():
        _link_file(source, target)
        return
    for parent, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name != "__pycache__"]
        folder = target / Path(parent).relative_to(source)
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            _link_file(Path(parent) / name, folder / name)


def _link_file(source: Path, target: Path) -> None:
    """A hard link, or across file systems a symbolic one."""
    try:
        os.link(source, target)
    except OSError:
        target.symlink_to(source)
