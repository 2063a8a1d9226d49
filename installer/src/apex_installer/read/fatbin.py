"""Machine code and PTX of a module, read from the fat binaries that nvcc put into it.

The format has no public description. What is read here (container and entry headers) was held
against NVIDIA's `cuobjdump --list-elf --list-ptx`, on what nvcc 13.0 makes and on torch's own
libraries of CUDA 12.4 and 13.0. Headers are never compressed, so nothing is unpacked.
"""

from __future__ import annotations

from typing import Iterator, List, NamedTuple, Sequence, Tuple

from apex_installer.errors import CheckError
from apex_installer.model.arch import Architectures, Version
from apex_installer.read.elf_image import ElfImage

SECTIONS = (".nv_fatbin", "__nv_relfatbin")
"""Of host code, and of code that is still to be linked on the device."""
_MAGIC = 0xBA55ED50
_MAGIC_BYTES = _MAGIC.to_bytes(4, "little")
_CONTAINER = "<IHHQ"
"""Magic, version, size of this header, size of the entries."""
SIZE_AT = 8
"""Where in that header the size of the entries stands."""
_ENTRY = "<HHIQIIHHIIIQ"
"""Kind, version, header size, payload size, compressed size, options' offset, minor, major, SM
number, name's offset and length, flags."""
_ALIGNMENT = 8
_PTX, _CUBIN = 1, 2
_ACCELERATED, _FAMILY = 1 << 20, 1 << 21
"""Flags of `sm_90a` and `sm_100f`."""


class Code(NamedTuple):
    """One entry of a fat binary."""

    kind: int
    arch: str
    """`9.0`, `9.0a`, `10.0f`."""
    start: int
    end: int
    """Where it lies in the file, its header included."""

    @property
    def is_machine_code(self) -> bool:
        """Not PTX."""
        return self.kind == _CUBIN


class Container(NamedTuple):
    """One fat binary: what nvcc made of one `.cu`."""

    start: int
    first: int
    """Where its own header ends and the entries begin."""
    end: int
    codes: Tuple[Code, ...]


def read_architectures(path: str) -> Architectures:
    """What all device code of a file can rely on; empty for a file without any.

    Every `.cu` has a container of its own. An architecture counts where each container has machine
    code for that GPU, and PTX where each has that PTX, since a GPU that finds half of the kernels
    is of no use. CheckError for a file that is damaged or whose containers share nothing.
    """
    parts = read_parts(path)
    found = common_to(parts)
    if parts and not (found.machine_code or found.ptx):
        raise CheckError(f"{path}: no GPU architecture is common to all of its device code")
    return found


def common_to(parts: Sequence[Architectures]) -> Architectures:
    """What all of them can run, and the PTX that each has; maybe nothing."""
    held = {arch for one in parts for arch in one.machine_code}
    ptx = [set(one.ptx) for one in parts]
    return Architectures.of(
        (arch for arch in held if all(_runs(one, arch) for one in parts)),
        set.intersection(*ptx) if ptx else (),
    )


def read_parts(path: str) -> Tuple[Architectures, ...]:
    """What each container holds, alike ones once; empty for a file without device code."""
    with ElfImage(path) as image:
        containers = [
            Architectures.of(_archs(one.codes, _CUBIN), _archs(one.codes, _PTX))
            for one in read_containers(image)
            if one.codes
        ]
    return tuple(dict.fromkeys(containers))


def _archs(codes: Sequence[Code], kind: int) -> Tuple[str, ...]:
    return tuple(code.arch for code in codes if code.kind == kind)


def _runs(held: Architectures, arch: str) -> bool:
    how = held.how_it_runs(_capability(arch), driver_cuda=None, made_by=(0, 0))
    return how == "machine-code"


def _capability(arch: str) -> Version:
    major, minor = arch.rstrip("af").split(".")
    return int(major), int(minor)


def read_containers(image: ElfImage) -> Iterator[Container]:
    """Every fat binary of a file, in its order; CheckError for one that is damaged."""
    for start, end in _regions(image):
        at = start
        while 0 <= at < end:
            magic, _, header, size = image.unpack(_CONTAINER, at)
            if magic != _MAGIC:
                at = _next_container(image, at + _ALIGNMENT, end)
                continue
            begin, first, at = at, at + header, at + header + size
            if at > end:
                raise CheckError(f"{image.path}: its device code is cut short")
            yield Container(begin, first, at, tuple(_read_entries(image, first, at)))


def _regions(image: ElfImage) -> List[Tuple[int, int]]:
    """File ranges that hold containers; where the section table was stripped, the whole file."""
    sections = list(image.sections())
    if not sections:
        first = _next_container(image, 0, len(image.data))
        return [(first, len(image.data))] if first >= 0 else []
    return [(at, at + size) for name, at, size in sections if name in SECTIONS]


def _next_container(image: ElfImage, at: int, end: int) -> int:
    """Where the next one starts, or -1; containers are aligned, so other hits are chance."""
    at = image.data.find(_MAGIC_BYTES, at, end)
    while at >= 0 and at % _ALIGNMENT:
        at = image.data.find(_MAGIC_BYTES, at + 1, end)
    return at


def _read_entries(image: ElfImage, at: int, end: int) -> Iterator[Code]:
    while at < end:
        kind, _, header, size, _, _, _, _, number, _, _, flags = image.unpack(_ENTRY, at)
        if header + size <= 0 or at + header + size > end:
            raise CheckError(f"{image.path}: its device code is damaged at {at}")
        begin, at = at, at + header + size
        if kind in (_PTX, _CUBIN):
            suffix = "a" if flags & _ACCELERATED else "f" if flags & _FAMILY else ""
            yield Code(kind, f"{number // 10}.{number % 10}{suffix}", begin, at)
