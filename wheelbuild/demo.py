"""The demo: one small group of modules, from source to three clients, on this machine."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.errors import ToolkitError
from apex_installer.make.toolkit import find_toolkit
from apex_installer.model.arch import version_text
from apex_installer.read.devices import read_devices
from wheelbuild.build import BuildOptions
from wheelbuild.clients import Clients, Installed
from wheelbuild.data import FarmData, load_data
from wheelbuild.engines.environment import environment_folder, find_environment, read_environment
from wheelbuild.errors import EXIT_DONE, SourceError, UsageError
from wheelbuild.plan import Job, plan
from wheelbuild.run import CellResult, RunOptions, exit_code, run_cells
from wheelbuild.serve import IndexServer
from wheelbuild.source import find_source
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.tables import print_line

if TYPE_CHECKING:
    from wheelbuild.matrix import Row

logger = logging.getLogger(__name__)

SMALL = Path(__file__).parent.parent / "tests" / "data" / "recipes" / "small"
"""The project's own Apex-shaped package, in a checkout."""
GIGABYTE = 1e9
TORCH_DOWNLOAD, TORCH_DISK = 2.6 * GIGABYTE, 4.9 * GIGABYTE
"""torch 2.11.0+cu130 with its CUDA libraries, as measured; other releases differ little."""
REST_DISK = 0.3 * GIGABYTE
"""Toolkit of links, work folder, index and three environments of links."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """What the demo fetches if it is not here."""

    what: str
    size: float
    """Bytes to download; 0 where it is here already."""
    disk: float
    """Bytes on disk."""


def choose_row(data: FarmData, *, python: str, torch: str | None, compilers: frozenset[str]) -> Row:
    """Take the matrix's first cell of this Python whose compiler is here or on PyPI. Pure.

    The matrix's order is that of worth, and its first cells are those that are proved.
    `python`: tag. `torch`: exact version, if that is given. UsageError where there is none.
    """
    for row in data.matrix.rows:
        pinned = data.toolkits.get(row.cell.cuda)
        composable = pinned is not None and pinned.how == "wheels"
        if row.cell.python != python or (torch and row.torch != torch):
            continue
        if composable or row.cell.cuda_text in compilers:
            return row
    what = f"torch {torch}" if torch else "a torch whose compiler is here or on PyPI"
    raise UsageError(
        f"the matrix has no cell for {python} and {what}: start ./farm with another Python, "
        f"or name an interpreter that holds a torch of the matrix by --python"
    )


def list_downloads(data: FarmData, job: Job, *, has_torch: bool, has_nvcc: bool) -> list[Download]:
    """What will be fetched, largest first. Pure."""
    pinned = data.toolkits.get(job.cell.cuda)
    compiler = pinned.size if pinned else 0
    return [
        Download(
            what=f"torch {job.torch} and its CUDA libraries",
            size=0 if has_torch else TORCH_DOWNLOAD,
            disk=0 if has_torch else TORCH_DISK,
        ),
        Download(
            what=f"NVIDIA's compiler, CUDA {job.cell.cuda_text}",
            size=0 if has_nvcc else compiler,
            disk=0 if has_nvcc else 3.6 * compiler,
        ),
        Download(what="the source, its wheels, environments of links", size=0, disk=REST_DISK),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """`data`: another data folder; then its own recipe is shown and nothing is fetched for it."""

    build: BuildOptions
    data: Path | None = None


def show_demo(options: DemoOptions) -> int:
    """Build, test, publish, then install by apex-install, pip and uv; return the exit code."""
    data, job = find_subject(options)
    build = replace(options.build, source=None if data.recipe.source else options.build.source)
    print_line(_title(f"A cell for this machine: {job.cell.label}"))
    _say_downloads(data, job, build)
    print_line(_title(f"Building {', '.join(job.modules)} of {job.package}, ref {job.ref_name}"))
    with tempfile.TemporaryDirectory(prefix="wheelbuild-demo-") as scratch:
        store = DirectoryStore(Path(scratch) / "index")
        results = run_cells([job], data=data, options=RunOptions(build=build, store=store))
        if exit_code(results) != EXIT_DONE:
            return exit_code(results)
        _say_wheel(results[0], store)
        with IndexServer(store.directory) as server:
            clients = Clients(
                environment=find_environment(job, python=build.python, cache=build.cache),
                data=data,
                store=store,
                url=server.url,
                folder=Path(scratch),
                cache=build.cache,
            )
            _show_clients(clients)
    return EXIT_DONE


def find_row(data: FarmData, build: BuildOptions) -> Row:
    """The cell of the interpreter that was given, else of our own Python."""
    if build.python:
        found = read_environment(build.python)
        tag, torch = found.interpreter.tag, found.torch.version
    else:
        tag, torch = f"cp{sys.version_info[0]}{sys.version_info[1]}", None
    cudas = {row.cell.cuda_text for row in data.matrix.rows}
    compilers = frozenset(cuda for cuda in cudas if _has_nvcc(cuda))
    return choose_row(data, python=tag, torch=torch, compilers=compilers)


def find_subject(options: DemoOptions) -> tuple[FarmData, Job]:
    """The norm group of the recipe, or where its source cannot be had of our own small package."""
    data = load_data(options.data)
    job = _plan_small(data, find_row(data, options.build))
    try:
        given = options.build.source or data.recipe.source
        find_source(job, given=given, cache=options.build.cache)
    except SourceError as error:
        if options.build.source or options.data or not SMALL.is_dir():
            raise
        print_line(f"{error}")
        print_line(f"So this shows the project's own small package instead: {SMALL}")
        data = load_data(SMALL)
        job = _plan_small(data, find_row(data, options.build))
    return data, job


def _plan_small(data: FarmData, row: Row) -> Job:
    """One group for one architecture: this machine's GPU's, else the cell's newest."""
    gpus = read_devices(environ=os.environ, gpu=None).gpus
    held = row.architectures.machine_code
    arch = next((text for gpu in gpus if (text := version_text(gpu.capability)) in held), held[-1])
    return plan(data, cells=[row.cell.label], only=[data.recipe.required_by_default], arch=arch)[0]


def _has_nvcc(cuda: str) -> bool:
    try:
        find_toolkit(cuda, environ=os.environ)
    except ToolkitError:
        return False
    return True


def _say_downloads(data: FarmData, job: Job, build: BuildOptions) -> None:
    there = environment_folder(job.cell.python, job.torch, cache=build.cache).is_dir()
    downloads = list_downloads(
        data,
        job,
        has_torch=bool(build.python) or there,
        has_nvcc=_has_nvcc(job.cell.cuda_text),
    )
    for one in downloads:
        size = f"{one.size / GIGABYTE:.1f} GB to download" if one.size else "nothing to download"
        disk = f"{one.disk / GIGABYTE:.1f} GB on disk" if one.disk else "here already"
        print_line(f"  {one.what}: {size}, {disk}")
    needed, free = sum(one.disk for one in downloads), _free(build.cache)
    print_line(f"  in all {needed / GIGABYTE:.1f} GB below {build.cache}")
    print_line(f"  where {free / GIGABYTE:.0f} GB are free")
    if free < needed:
        raise UsageError(f"{build.cache}: not enough disk; name another folder by --cache")


def _free(folder: Path) -> int:
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return shutil.disk_usage(there).free


def _say_wheel(result: CellResult, store: DirectoryStore) -> None:
    (entry,) = store.entries()
    print_line(f"  {entry.file}")
    print_line(
        f"  {entry.size:,} bytes after {result.seconds:.0f} s; {entry.tests.get('gpu')} on a GPU"
    )


def _show_clients(clients: Clients) -> None:
    for name, install in (
        ("apex-install", clients.apex_install),
        ("pip", clients.pip),
        ("uv", clients.uv),
    ):
        print_line(_title(f"The same wheel by {name}, into a fresh environment"))
        installed: Installed = install()
        print_line(f"  $ {installed.command}")
        for line in installed.said:
            print_line(f"  {line}")
        print_line(f"  {installed.version} in {installed.seconds:.2f} s")


def _title(text: str) -> str:
    return f"\n{text}\n{'-' * len(text)}"
