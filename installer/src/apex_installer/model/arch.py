"""GPU architectures: what code is for, and which GPU runs it.

Source of the rules: NVIDIA, CUDA C++ Programming Guide, "Binary compatibility" and "PTX
compatibility"; nvcc manual, "GPU feature list" for the suffixes `a` and `f`.
"""

from __future__ import annotations

import re
from typing import Iterable, Optional, Tuple

from apex_installer.errors import UsageError
from apex_installer.values import dataclass

Version = Tuple[int, int]
"""(major, minor): of a CUDA release, or of a GPU's compute capability."""

_FARTHEST = 10
"""Minor versions of one digit: no machine code at all is farther than any."""
_ARCH = re.compile(r"^(\d+)\.(\d)([af]?)$")


def parse_version(text: str) -> Version:
    """Read `12.1` (a third number is dropped): a CUDA release or a compute capability."""
    match = re.match(r"^(\d+)\.(\d+)(?:\.\d+)*$", text.strip())
    if not match:
        raise UsageError(f"{text!r} is not a version such as 12.1")
    return int(match.group(1)), int(match.group(2))


def version_text(version: Version) -> str:
    """`(12, 1)` -> `12.1`."""
    return f"{version[0]}.{version[1]}"


def _order(arch: str) -> Tuple[int, int, str]:
    match = _ARCH.match(arch)
    if not match:
        raise UsageError(f"{arch!r} is not an architecture such as 9.0, 9.0a or 10.0f")
    return int(match.group(1)), int(match.group(2)), match.group(3)


def _runs_machine_code(arch: str, gpu: Version) -> bool:
    major, minor, suffix = _order(arch)
    if suffix == "a":
        return (major, minor) == gpu
    return major == gpu[0] and minor <= gpu[1]


def _runs_ptx(arch: str, gpu: Version) -> bool:
    major, minor, suffix = _order(arch)
    if suffix == "a":
        return (major, minor) == gpu
    if suffix == "f":
        return major == gpu[0] and minor <= gpu[1]
    return (major, minor) <= gpu


@dataclass(frozen=True)
class Architectures:
    """What a module, a wheel or a cell holds: machine code and PTX, each as `9.0`, `9.0a`, `10.0f`.

    The text form is torch's `TORCH_CUDA_ARCH_LIST`: `8.0;8.6;9.0+PTX`. One that is PTX alone is
    written `9.0-PTX`, which torch's list cannot say and a fat binary can.
    """

    machine_code: Tuple[str, ...] = ()
    ptx: Tuple[str, ...] = ()

    @classmethod
    def of(cls, machine_code: Iterable[str], ptx: Iterable[str]) -> Architectures:
        """Sort and deduplicate."""
        return cls(
            tuple(sorted(set(machine_code), key=_order)), tuple(sorted(set(ptx), key=_order))
        )

    @classmethod
    def parse(cls, text: str) -> Architectures:
        """Read `8.0;8.6 9.0+PTX` (`;`, `,` and blanks separate); UsageError names a bad part."""
        machine_code, ptx = [], []
        for part in re.split(r"[;,\s]+", text.strip()):
            if not part:
                continue
            name, mark, _ = part.partition("-PTX")
            if mark:
                ptx.append(name)
                continue
            name, mark, _ = part.partition("+PTX")
            machine_code.append(name)
            if mark:
                ptx.append(name)
        found = cls.of(machine_code, ptx)
        if not (found.machine_code or found.ptx):
            raise UsageError(f"{text!r} names no architecture; write for example 8.0;9.0+PTX")
        return found

    @property
    def text(self) -> str:
        """The inverse of `parse`."""
        parts = [f"{a}+PTX" if a in self.ptx else a for a in self.machine_code]
        parts += [f"{a}-PTX" for a in self.ptx if a not in self.machine_code]
        return ";".join(sorted(parts, key=lambda part: _order(re.split(r"[+-]PTX", part)[0])))

    def how_it_runs(
        self, gpu: Version, *, driver_cuda: Optional[Version], made_by: Version
    ) -> Optional[str]:
        """`machine-code`, `ptx` or None for a GPU of this capability.

        PTX needs a driver at least as new as the CUDA that made it (`made_by`): minor-version
        compatibility does not cover it. A driver that is not known counts as new enough.
        """
        if any(_runs_machine_code(arch, gpu) for arch in self.machine_code):
            return "machine-code"
        if driver_cuda is not None and driver_cuda < made_by:
            return None
        return "ptx" if any(_runs_ptx(arch, gpu) for arch in self.ptx) else None

    def distance(self, gpu: Version) -> int:
        """How many minor versions the nearest machine code that runs on this GPU is below it."""
        runs = [arch for arch in self.machine_code if _runs_machine_code(arch, gpu)]
        return gpu[1] - max((_order(arch)[1] for arch in runs), default=gpu[1] - _FARTHEST)

    def contains(self, other: Architectures) -> bool:
        """Whether every architecture of `other`, machine code and PTX, is held here too."""
        return set(other.machine_code) <= set(self.machine_code) and set(other.ptx) <= set(self.ptx)

    def common(self, other: Architectures) -> Architectures:
        """What both hold."""
        return Architectures.of(
            set(self.machine_code) & set(other.machine_code), set(self.ptx) & set(other.ptx)
        )
