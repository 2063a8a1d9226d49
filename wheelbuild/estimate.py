"""Minutes, downloads and disk of a plan, before anything starts. Pure.

What is known is used (the recipe's CPU-seconds, the cell's architectures, the pinned toolkit's
sizes); what is not is assumed, and `ASSUMED` says so to people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelbuild.plan import Job
    from wheelbuild.toolkits import Toolkits

PER_ARCHITECTURE = 0.26
"""CPU of each further architecture, of the first one's: three and PTX took 1.77 times of one."""
BUSY = 0.8
"""Share of the cores that a build keeps busy: 1,268 CPU-seconds took 99 s on 16 of them."""
HEADER_SECONDS = 40.0
"""CPU-seconds of the precompiled header, once per cell."""
FURTHER_SECONDS = 12.0
"""CPU-seconds per module of a further Python: its .cpp file with that header, and the link. The
device code is there: the first Python of the same torch, CUDA, ref and architectures made it."""
FIXED_MINUTES = 4.0
"""Of each cell beside compiling: its torch is installed, the wheel repaired and tested."""
TORCH_WHEEL = 0.75e9
"""Bytes of torch's own wheel, per Python: 0.53 to 0.92 GB on PyPI for 2.4 to 2.15."""
TORCH_LIBRARIES = 2.3e9
"""Bytes of the CUDA libraries that torch requires, per torch and CUDA."""
TORCH_DISK = 5.2e9
"""Bytes of an environment with torch: 4.6 GB (2.11.0+cu130), 5.2 GB (2.6.0+cu124)."""
UNPACKED = 3.0
"""A toolkit on disk, of its archives; these are kept too."""
WORK_DISK = 0.6e9
"""Bytes of a cell's objects, wheels and logs."""
SOURCE = 30e6
"""Bytes of a ref's source."""
ASSUMED = (
    f"assumed: each further architecture {PER_ARCHITECTURE:.0%} of the first one's CPU, "
    f"no device code compiled for a further Python of the same torch and CUDA, "
    f"{BUSY:.0%} of the cores busy, {FIXED_MINUTES:.0f} minutes per cell beside compiling; "
    f"torch {TORCH_WHEEL / 1e9:.2f} GB per Python and {TORCH_LIBRARIES / 1e9:.1f} GB of CUDA "
    f"libraries per torch and CUDA to download, {TORCH_DISK / 1e9:.1f} GB on disk each; "
    "nothing of it cached"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What some jobs take together."""

    cpu_seconds: float
    minutes: float
    """Of wall time, one cell after the other."""
    download: float
    """Bytes."""
    disk: float
    """Bytes, with all environments kept."""

    def __add__(self, other: Estimate) -> Estimate:
        """Of both, one after the other."""
        return Estimate(
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            minutes=self.minutes + other.minutes,
            download=self.download + other.download,
            disk=self.disk + other.disk,
        )


NOTHING = Estimate(cpu_seconds=0, minutes=0, download=0, disk=0)


def estimate_jobs(jobs: Iterable[Job], *, toolkits: Toolkits, cores: int) -> tuple[Estimate, ...]:
    """One estimate per job; what several share is with the first that needs it.

    `cores`: how many the machine has.
    """
    seen: set[object] = set()
    return tuple(_estimate(job, toolkits=toolkits, cores=cores, seen=seen) for job in jobs)


def cpu_seconds(job: Job, *, objects: bool = False) -> float:
    """User and system: the modules' for one architecture, more for each further one.

    `objects`: whether another Python's build left those that need no Python.
    """
    if objects:
        return HEADER_SECONDS + min(FURTHER_SECONDS * len(job.modules), job.cpu_seconds)
    codes = len(job.architectures.machine_code) + len(job.architectures.ptx)
    return HEADER_SECONDS + job.cpu_seconds * (1 + PER_ARCHITECTURE * max(codes - 1, 0))


def _estimate(job: Job, *, toolkits: Toolkits, cores: int, seen: set[object]) -> Estimate:
    toolkit = toolkits.get(job.cell.cuda)
    size = toolkit.size if toolkit else 0
    once = (
        (("toolkit", job.cell.cuda), size, size * (1 + UNPACKED)),
        (("torch", job.cell.torch, job.cell.cuda), TORCH_LIBRARIES, 0.0),
        (("source", job.ref), SOURCE, SOURCE),
    )
    new = [(download, disk) for what, download, disk in once if what not in seen]
    seen.update(what for what, _, _ in once)
    made = ("objects", job.torch, job.ref, job.architectures.text, job.modules)
    seconds = cpu_seconds(job, objects=made in seen)
    seen.add(made)
    return Estimate(
        cpu_seconds=seconds,
        minutes=seconds / (cores * BUSY) / 60 + FIXED_MINUTES,
        download=TORCH_WHEEL + sum(download for download, _ in new),
        disk=TORCH_DISK + WORK_DISK + sum(disk for _, disk in new),
    )


def estimate_text(total: Estimate, *, jobs: int, cores: int) -> str:
    """`54 to build on 16 cores: about 9.5 hours, 61 GB to download, 320 GB of disk`."""
    long = total.minutes >= 120  # noqa: PLR2004 - minutes that people read as hours
    time = f"{total.minutes / 60:.1f} hours" if long else f"{total.minutes:.0f} minutes"
    return (
        f"{jobs} to build on {cores} cores: about {time} ({total.cpu_seconds / 3600:.1f} "
        f"CPU-hours), {total.download / 1e9:.1f} GB to download, {total.disk / 1e9:.0f} GB of disk"
    )
