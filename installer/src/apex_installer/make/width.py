"""How many compilers at once: what the CPUs, the cgroup's quota and the memory allow.

`os.cpu_count()` is the machine's, not the container's; a pod of 8 vCPUs on a machine of 128 is the
rule. Sources: Linux Documentation/admin-guide/cgroup-v2 (cpu.max, memory.max) and cgroup-v1.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Dict, List, Optional

OBJECT_BYTES = 1_600_000_000
"""Peak memory of nvcc and its children on one `.cu` of Apex without Python's headers; 3.0 GB with
them. Measured with nvcc 13.0 and torch 2.11."""


@dataclass(frozen=True)
class Limits:
    """What this process may use."""

    cpus: int
    """CPUs of the affinity mask."""
    quota: Optional[float] = None
    """CPUs' worth of time per second that the cgroup grants; None: no limit."""
    memory: Optional[int] = None
    """Bytes that can still be had: the least of MemAvailable and the cgroups' rests."""


@dataclass(frozen=True)
class Width:
    """How many at once, and why."""

    jobs: int
    why: str


def choose_width(limits: Limits, *, object_bytes: int = OBJECT_BYTES) -> Width:
    """The least of CPUs, quota (rounded up) and memory over an object's need; at least 1."""
    choices = [Width(max(limits.cpus, 1), f"{limits.cpus} CPUs")]
    if limits.quota is not None:
        choices.append(
            Width(max(math.ceil(limits.quota), 1), f"the cgroup grants {limits.quota:g} CPUs")
        )
    if limits.memory is not None:
        choices.append(
            Width(
                max(limits.memory // object_bytes, 1),
                f"{limits.memory / 1e9:.1f} GB of memory can be had, {object_bytes / 1e9:.1f} "
                "per object (--jobs N where memory grows on demand)",
            )
        )
    return min(choices, key=lambda one: one.jobs)


def read_limits(*, root: str = "/") -> Limits:
    """Ask the kernel; `root` stands for `/` in tests. Files that are not there are no limit."""
    memory = [_read_meminfo(root)]
    quota: List[float] = []
    for controllers, folder in _cgroup_folders(root):
        if not controllers or "cpu" in controllers.split(","):
            quota += _quota(folder)
        if not controllers or "memory" in controllers.split(","):
            memory.append(_memory_rest(folder))
    known = [one for one in memory if one is not None]
    return Limits(
        cpus=len(os.sched_getaffinity(0)),
        quota=min(quota) if quota else None,
        memory=min(known) if known else None,
    )


def _cgroup_folders(root: str) -> List[tuple[str, str]]:
    """(v1 controllers or "", folder) of this process's cgroups and all above them."""
    found = []
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        name = controllers.replace("name=", "")
        base = os.path.join(root, "sys/fs/cgroup", name)
        # In a container the path is that of the machine and not there: the mount is its own root.
        parts = path.strip("/").split("/") if path.strip("/") else []
        for end in range(len(parts), -1, -1):
            folder = os.path.join(base, *parts[:end])
            if os.path.isdir(folder):
                found.append((controllers, folder))
    return found


def _quota(folder: str) -> List[float]:
    both = _read(os.path.join(folder, "cpu.max")).split()
    if not both:
        both = [
            _read(os.path.join(folder, name)).strip()
            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
    if len(both) != 2 or not both[0].isdigit() or not both[1].isdigit() or both[1] == "0":  # noqa: PLR2004
        return []
    return [int(both[0]) / int(both[1])]


def _memory_rest(folder: str) -> Optional[int]:
    """Limit less use; page cache that the kernel would give back does not count as use."""
    limit = _number(folder, "memory.max") or _number(folder, "memory.limit_in_bytes")
    if limit is None or limit >= 1 << 60:
        return None
    used = _number(folder, "memory.current") or _number(folder, "memory.usage_in_bytes") or 0
    stat = _pairs(_read(os.path.join(folder, "memory.stat")))
    cache = stat.get("inactive_file", 0) + stat.get("active_file", 0)
    return max(limit - max(used - cache, 0), 0)


def _read_meminfo(root: str) -> Optional[int]:
    pairs = _pairs(_read(os.path.join(root, "proc/meminfo")).replace(":", " "))
    return pairs["MemAvailable"] * 1024 if "MemAvailable" in pairs else None


def _pairs(text: str) -> Dict[str, int]:
    words = [line.split() for line in text.splitlines()]
    return {one[0]: int(one[1]) for one in words if len(one) > 1 and one[1].isdigit()}


def _number(folder: str, name: str) -> Optional[int]:
    text = _read(os.path.join(folder, name)).strip()
    return int(text) if text.isdigit() else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
