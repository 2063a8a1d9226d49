"""In which order jobs are built, and in which groups a workflow takes them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wheelbuild.plan import Job

MOST_GROUPS = 256
"""Jobs that one matrix of a GitHub workflow may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """What one job of a workflow builds: one torch × CUDA, since its Pythons share objects."""

    name: str
    """`torch2.11-cu130`, or `torch2.11-cu130 and 2 more`."""
    jobs: tuple[Job, ...]


def order_jobs(jobs: Iterable[Job], misses: Mapping[str, int]) -> tuple[Job, ...]:
    """What is missed most first, then the newest torch, then as the matrix has it.

    `misses`: cell's label -> how often.
    """
    return tuple(
        sorted(
            jobs,
            key=lambda job: (
                -misses.get(job.cell.label, 0),
                tuple(-number for number in job.cell.torch),
            ),
        )
    )


def group_jobs(jobs: Iterable[Job], *, most: int = MOST_GROUPS) -> tuple[Group, ...]:
    """Groups by torch × CUDA, in the order of each one's first job; at most `most` of them.

    Every job is in exactly one group. Where there are more torches × CUDAs than `most`,
    neighbours are taken together.
    """
    families: dict[str, list[Job]] = {}
    for job in jobs:
        families.setdefault(f"torch{job.cell.torch_text}-{job.cell.cuda_tag}", []).append(job)
    labels, width = list(families), -(-len(families) // most) or 1
    return tuple(
        Group(
            name=names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more",
            jobs=tuple(job for name in names for job in families[name]),
        )
        for at in range(0, len(labels), width)
        for names in (labels[at : at + width],)
    )
