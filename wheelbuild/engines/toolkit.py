"""The CUDA toolkit of a cell: one that is there, else NVIDIA's archives or wheels, as pinned."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.deadline import Deadline
from apex_installer.errors import InstallError, ToolkitError
from apex_installer.get.cache import Cache, CacheLocation
from apex_installer.get.supply import PYPI, Supply
from apex_installer.make.compose import MADE_OF, complete_toolkit
from apex_installer.make.pins import WHEELS, parse_pins
from apex_installer.make.provide import fetch_toolkit, unpack_parts
from apex_installer.make.toolkit import Toolkit, find_toolkit
from wheelbuild.command import run_command
from wheelbuild.errors import CellError, CommandError
from wheelbuild.locks import locked
from wheelbuild.thin_json import toolkits_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apex_installer.make.pins import Part as PinnedPart
    from apex_installer.make.pins import Pinned
    from apex_installer.model.environment import Torch
    from wheelbuild.plan import Job
    from wheelbuild.toolkits import Part, Toolkits

logger = logging.getLogger(__name__)

_LIMIT = 6 * 3600.0
"""Seconds to fetch in; a download that stands still ends long before."""


def prepare_toolkit(job: Job, torch: Torch, *, toolkits: Toolkits, cache: Path) -> Toolkit:
    """A whole CUDA_HOME of exactly the cell's CUDA; CellError names every place looked at."""
    folder = cache / "toolkits"
    # Links into this Python's packages: another Python's build may be using its own.
    whole = folder / f"{job.cell.cuda_text}-for-torch{job.torch}-{job.cell.python}"
    try:
        found = find_or_fetch(job.cell.cuda_text, toolkits=toolkits, folder=folder)
        with locked(whole):
            return complete_toolkit(found, torch_directory=torch.directory, into=str(whole))
    except (InstallError, CellError) as error:
        raise CellError(f"{job.cell.label}: {error}") from error


def find_or_fetch(cuda: str, *, toolkits: Toolkits, folder: Path) -> Toolkit:
    """The compiler that is here, else NVIDIA's as pinned, fetched into `folder` once and kept.

    ToolkitError names every place looked at where none is pinned; CellError and the thin part's
    errors where it cannot be had. Not yet whole: what torch's own wheels brought is lacking.
    """
    try:
        return find_toolkit(cuda, environ=os.environ)
    except ToolkitError as error:
        pinned = parse_pins(toolkits_json(toolkits), where="toolkits.toml").get(cuda)
        if pinned is None:
            raise
        lacking = str(error)
    logger.info("no CUDA %s here: NVIDIA's %s are taken", cuda, pinned.how)
    try:
        home = _fetch_once(pinned, folder=folder)
    except (InstallError, CellError) as error:
        said = f"{lacking}; nor can NVIDIA's {pinned.how} be had: {error}"
        raise type(error)(said) from error
    return Toolkit(str(home), cuda, f"NVIDIA's {pinned.how}")


def _fetch_once(pinned: Pinned, *, folder: Path) -> Path:
    """The unpacked parts; a later call finds them."""
    digest = hashlib.sha256("".join(part.sha256 for part in pinned.parts).encode()).hexdigest()
    unpacked = folder / f"{pinned.release}-{digest[:12]}"
    mark = unpacked / "complete"
    with locked(unpacked):
        if not mark.is_file():
            shutil.rmtree(unpacked, ignore_errors=True)
            _unpack(pinned, folder=folder, into=unpacked)
            mark.write_text(f"{pinned.release}\n", encoding="utf-8")
    return unpacked / "parts"


def _unpack(pinned: Pinned, *, folder: Path, into: Path) -> None:
    """Wheels come by pip, so that its mirrors hold; archives from the address that is pinned."""
    if pinned.how == WHEELS:
        wheels = fetch_wheels(pinned.parts, into=folder / "parts", name=f"CUDA {pinned.release}")
        unpack_parts(pinned, [str(wheels[part.name]) for part in pinned.parts], into=str(into))
        return
    location = CacheLocation(str(folder), "--cache", outlives_pod=True)
    with Cache(location, folder="parts") as cache:
        supply = Supply(
            cache=cache,
            deadline=Deadline(_LIMIT),
            allow_http=False,
            offline=False,
            pypi_url=PYPI,
        )
        fetch_toolkit(pinned, supply=supply, mirror=None, into=str(into))


def fetch_wheels(parts: Sequence[Part | PinnedPart], *, into: Path, name: str) -> dict[str, Path]:
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
    """The folders that a container must see for this CUDA_HOME, which may be of links to links."""
    try:
        made_of = json.loads((home / MADE_OF).read_text(encoding="utf-8"))
    except OSError:
        made_of = []
    deeper = [path for one in made_of for path in toolkit_mounts(Path(one))]
    return tuple(dict.fromkeys((home, home.resolve(), *deeper)))


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
