"""The CUDA toolkit of a cell: one that is there, else composed from NVIDIA's wheels on PyPI."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.errors import ToolkitError
from apex_installer.make.compose import MADE_OF, complete_toolkit, compose_toolkit
from apex_installer.make.toolkit import find_toolkit
from wheelbuild.command import run_command
from wheelbuild.errors import CellError, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apex_installer.make.toolkit import Toolkit
    from apex_installer.model.environment import Torch
    from wheelbuild.plan import Job
    from wheelbuild.toolkits import Part, Toolkits
    from wheelbuild.toolkits import Toolkit as Pinned

logger = logging.getLogger(__name__)


def prepare_toolkit(job: Job, torch: Torch, *, toolkits: Toolkits, cache: Path) -> Toolkit:
    """A whole CUDA_HOME of exactly the cell's CUDA; CellError names every place looked at."""
    folder = cache / "toolkits" / f"{job.cell.cuda_text}-for-torch{job.torch}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        there = find_toolkit(job.cell.cuda_text, environ=os.environ)
        # Links into this Python's packages: another Python's build may be using its own.
        completed = folder.with_name(f"{folder.name}-{job.cell.python}")
        return complete_toolkit(there, torch_directory=torch.directory, into=str(completed))
    except ToolkitError as error:
        pinned = toolkits.get(job.cell.cuda)
        if pinned is None or pinned.how != "wheels":
            raise CellError(f"{job.cell.label}: {error}") from error
        logger.info("no CUDA %s here: composing it from PyPI", job.cell.cuda_text)
    parts = fetch_parts(pinned, into=cache / "toolkits" / "parts")
    try:
        return compose_toolkit(
            job.cell.cuda_text,
            torch=torch.directory,
            parts={name: str(path) for name, path in parts.items()},
            into=str(folder),
        )
    except ToolkitError as error:
        raise CellError(f"{job.cell.label}: {error}") from error


def fetch_parts(pinned: Pinned, *, into: Path) -> dict[str, Path]:
    """Distribution -> wheel file of every part; CellError where one cannot be had."""
    return fetch_wheels(pinned.parts, into=into, name=f"CUDA {pinned.release}")


def fetch_wheels(parts: Sequence[Part], *, into: Path, name: str) -> dict[str, Path]:
    """Distribution -> wheel file, by pip, so that its mirrors hold; each must have its sha256.

    `name` is for people. CellError where one cannot be had.
    """
    missing = [part for part in parts if not (into / part.file).is_file()]
    if missing:
        into.mkdir(parents=True, exist_ok=True)
        wanted = into / f"{name.replace(' ', '-')}.txt"
        lines = [f"{part.name}=={part.version} --hash=sha256:{part.sha256}\n" for part in missing]
        wanted.write_text("".join(lines), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        try:
            run_command([*pip, "--only-binary", ":all:", "-d", str(into), "-r", str(wanted)])
        except CommandError as error:
            raise CellError(f"{name} from PyPI: {error}") from error
    return {part.name: into / part.file for part in parts}


def toolkit_mounts(home: Path) -> tuple[Path, ...]:
    """The folders that a container must see for this CUDA_HOME, which may be of links."""
    try:
        made_of = json.loads((home / MADE_OF).read_text(encoding="utf-8"))
    except OSError:
        made_of = []
    return tuple(dict.fromkeys((home, home.resolve(), *map(Path, made_of))))


def read_nvcc_version(home: str) -> str:
    """`13.0.88`, as this nvcc says."""
    output = run_command([Path(home) / "bin" / "nvcc", "--version"]).output
    match = re.search(r"\bV(\d+\.\d+\.\d+)", output)
    if not match:
        raise CellError(f"{home}/bin/nvcc does not say its version: {output[:80]!r}")
    return match.group(1)


def read_gcc_version() -> str:
    """`12.2.0`: of the compiler that torch's own rules take, `CXX` or `c++`."""
    compiler = os.environ.get("CXX", "c++")
    try:
        return run_command([compiler, "-dumpfullversion"]).output.strip()
    except CommandError as error:
        raise CellError(f"no host compiler: {error}: install g++, or set CXX") from error
