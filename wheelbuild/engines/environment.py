"""The environment of a cell: an interpreter that holds exactly the cell's torch."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.errors import InstallError
from apex_installer.read.interpreter import read_interpreter
from apex_installer.read.torch_files import find_torch, read_torch
from wheelbuild.command import run_command
from wheelbuild.engines.interpreters import find_python
from wheelbuild.errors import CellError, CommandError
from wheelbuild.locks import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apex_installer.model.environment import Interpreter, Torch
    from wheelbuild.plan import Job

logger = logging.getLogger(__name__)

BUILD_REQUIREMENTS = ("build", "ninja", "numpy", "packaging", "setuptools>=77", "wheel")
"""What a torch extension's setup.py imports, and the front end that calls it."""
_PYPI = "https://pypi.org/simple"
_MARK = "complete"


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildEnvironment:
    """What a build runs in; read from files, torch is never imported here."""

    interpreter: Interpreter
    torch: Torch

    @property
    def package_folders(self) -> tuple[Path, ...]:
        """Where its packages lie, in the order of its `sys.path`; torch's may be another's."""
        found = [Path(entry) for entry in self.interpreter.path]
        found = [path for path in found if path.name in ("site-packages", "dist-packages")]
        torch = Path(self.torch.directory).parent
        return tuple(dict.fromkeys((*found, torch)))


def find_environment(job: Job, *, python: Path | None, cache: Path) -> BuildEnvironment:
    """Read the interpreter that was given, else make or reuse the cell's own under the cache.

    CellError where torch, Python or the C++ ABI are not the cell's.
    """
    executable = python or _make(job, cache=cache)
    found = read_environment(executable)
    faults = list(_faults(job, found))
    if faults:
        raise CellError(f"{executable}: {'; '.join(faults)}; the cell is {job.cell.label}")
    return found


def read_environment(executable: Path) -> BuildEnvironment:
    """Interpreter and torch of any Python; CellError where it has no torch."""
    try:
        interpreter = read_interpreter(str(executable))
        directory = find_torch(interpreter.path)
        if directory is None:
            raise CellError(f"{executable}: holds no torch; name one that does with --python")
        return BuildEnvironment(interpreter=interpreter, torch=read_torch(directory))
    except InstallError as error:
        raise CellError(f"{executable}: {error}") from error


def _faults(job: Job, found: BuildEnvironment) -> Iterator[str]:
    if found.interpreter.tag != job.cell.python:
        yield f"is {found.interpreter.tag}, not {job.cell.python}"
    if found.torch.version != job.torch:
        yield f"holds torch {found.torch.version}, not {job.torch}"
    if found.torch.cuda != job.cell.cuda_text:
        yield f"its torch has CUDA {found.torch.cuda}, not {job.cell.cuda_text}"
    if found.torch.cxx11_abi not in (None, job.cxx11_abi):
        yield f"its torch has cxx11_abi={found.torch.cxx11_abi}, the matrix says {job.cxx11_abi}"


def environment_folder(python: str, torch: str, *, cache: Path) -> Path:
    """Where the environment of this Python tag and exact torch is kept."""
    return cache / "environments" / f"{python}-torch{torch}"


def _make(job: Job, *, cache: Path) -> Path:
    """Downloaded once per Python and torch; others who want the same wait for it."""
    folder = environment_folder(job.cell.python, job.torch, cache=cache)
    with locked(folder):
        if not (folder / _MARK).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _install(job, folder)
            (folder / _MARK).write_text(f"{job.torch}\n", encoding="utf-8")
    return folder / "bin" / "python"


def _install(job: Job, folder: Path) -> None:
    base = find_python(job.cell.python)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # PyPI's torch is taken by pip's own configuration, so that a mirror of PyPI is obeyed.
    index = [] if job.torch_index.rstrip("/") == _PYPI else ["--index-url", job.torch_index]
    logger.info("making %s: torch %s from %s", folder, job.torch, job.torch_index)
    try:
        run_command([base, "-m", "venv", folder])
        run_command([*pip, *index, f"torch=={job.torch_release}"])
        # torch is named again, so that what it asks of setuptools holds.
        run_command([*pip, f"torch=={job.torch_release}", *BUILD_REQUIREMENTS])
    except CommandError as error:
        raise CellError(
            f"{job.cell.label}: no environment with torch {job.torch}: {error}; "
            f"an interpreter that holds it can be named by --python"
        ) from error
