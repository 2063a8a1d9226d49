"""What a compile needs of the pod, asked before a byte is fetched; each fault has its remedy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Callable, List, Mapping, Optional, Tuple

from apex_installer.errors import ToolkitError
from apex_installer.make.needs import Target, find_host_compiler, read_target
from apex_installer.make.unpack import xz_fault
from apex_installer.make.width import OBJECT_BYTES, Limits
from apex_installer.model.arch import Version, version_text

UNPACKED = 5
"""Bytes on disk per byte of a toolkit's archives, and the archives themselves."""
SCRATCH_BYTES = 400_000_000
"""Of sources, objects and a precompiled header."""
PATIENCE = 2.0
"""A budget is too short when twice the recipe's pace would not keep it: estimates are of a common
server's core."""


@dataclass(frozen=True)
class Plan:
    """What is about to be done."""

    cuda: str
    driver_cuda: Optional[Version]
    driver: Optional[str]
    gcc_max: Optional[int]
    """None where the toolkit is there and says so itself."""
    fetched: int
    """Bytes to download."""
    has_archives: bool
    """Whether `.tar.xz` archives have to be unpacked."""
    cpu_seconds: float
    width: int
    budget: float
    """Seconds that are left for all of it."""


@dataclass(frozen=True)
class Machine:
    """What the pod has."""

    limits: Limits
    free_bytes: int
    """Where the scratch folder lies."""
    folder: str


def plan_faults(plan: Plan, machine: Machine) -> Tuple[str, ...]:
    """What speaks against it: driver, disk, memory, time. Pure."""
    faults: List[str] = []
    runs = plan.driver_cuda
    if runs is not None and runs[0] < int(plan.cuda.partition(".")[0]):
        faults.append(
            f"driver {plan.driver or 'here'} runs CUDA up to {version_text(runs)}, this torch has "
            f"{plan.cuda}: update the driver, or install a torch for an older CUDA"
        )
    needed = plan.fetched * (UNPACKED + 1) + SCRATCH_BYTES
    if machine.free_bytes < needed:
        faults.append(
            f"{machine.folder} has {machine.free_bytes >> 20} of {needed >> 20} MB: "
            "free some, or set TMPDIR to a larger disk"
        )
    memory = machine.limits.memory
    if memory is not None and memory < OBJECT_BYTES:
        faults.append(
            f"{memory >> 20} MB of memory can be had, one object needs {OBJECT_BYTES >> 20}: "
            "give the container more"
        )
    wall = plan.cpu_seconds / plan.width
    if wall > plan.budget * PATIENCE:
        faults.append(
            f"about {wall:.0f} s on {plan.width} cores, {plan.budget:.0f} s are left: "
            "a longer time is --compile-timeout SECONDS"
        )
    return tuple(faults)


def machine_faults(plan: Plan, *, interpreter: str, environ: Mapping[str, str]) -> Tuple[str, ...]:
    """What the machine lacks: g++ within nvcc's limit, Python.h, xz."""
    faults: List[str] = []
    _collect(lambda: find_host_compiler(limit=plan.gcc_max, environ=environ), faults)
    target: List[Target] = []
    _collect(lambda: target.append(read_target(interpreter, environ)), faults)
    faults += [
        f"no {one.header}: apt-get install python{one.version}-dev"
        for one in target
        if not os.path.exists(one.header)
    ]
    xz = xz_fault() if plan.has_archives else None
    return (*faults, *([xz] if xz else []))


def _collect(ask: Callable[[], object], faults: List[str]) -> None:
    try:
        ask()
    except ToolkitError as error:
        faults.append(str(error))


def free_bytes(folder: str) -> int:
    """On the disk of `folder`, for us; very much where a file system counts nothing."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else 1 << 62
