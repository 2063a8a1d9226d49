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
    run_command([environment.interpreter.executable, "-m", "venv", "--without-pip", into])
    targets = sorted(into.glob("lib/python3*/site-packages"))
    if not targets:
        raise CellError(f"{into}: the new virtual environment has no site-packages")
    left_out = tuple(f"{name}{mark}" for name in without for mark in ("", "-", "."))
    for folder in environment.package_folders:
        if folder.is_dir():
            _link_packages(folder, targets[0], left_out=left_out)
    return into / "bin" / "python"


def _link_packages(folder: Path, target: Path, *, left_out: tuple[str, ...]) -> None:
    """What an earlier folder holds already is not linked again, nor another version of it."""
    known = {_project(path.name) for path in target.glob("*.dist-info")}
    for entry in sorted(folder.iterdir()):
        again = entry.suffix == ".dist-info" and _project(entry.name) in known
        if not (again or _is_left_out(entry.name, left_out) or _is_taken(target / entry.name)):
            _link(entry, target / entry.name)


def _project(dist_info: str) -> str:
    return dist_info.partition("-")[0].lower()


def _is_left_out(name: str, left_out: tuple[str, ...]) -> bool:
    """A `.pth` would show a folder that is linked already, with all that is left out."""
    if name == "__pycache__" or name.endswith(".pth"):
        return True
    return name in left_out or name.startswith(tuple(mark for mark in left_out if mark[-1] in "-."))


def _is_taken(target: Path) -> bool:
    """An earlier folder's package wins; a namespace package (`nvidia`) is the sum of all."""
    return target.exists() and (target.is_file() or (target / "__init__.py").exists())


def _link(source: Path, target: Path) -> None:
    if not source.is_dir():
        _link_file(source, target)
        return
    for parent, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name != "__pycache__"]
        folder = target / Path(parent).relative_to(source)
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            if not (folder / name).exists():
                _link_file(Path(parent) / name, folder / name)


def _link_file(source: Path, target: Path) -> None:
    """A hard link, or across file systems a symbolic one."""
    try:
        os.link(source, target)
    except OSError:
        target.symlink_to(source)
