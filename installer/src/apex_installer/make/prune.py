"""An object that holds the machine code of one architecture, from one that holds several.

What NVIDIA's `nvprune` does. Not every CUDA has that: among the wheels of CUDA 13 on PyPI there is
none. The fat binary that is left is byte for byte the one that nvcc makes for that architecture
alone; a test compares them. Sources: `elf.h` for object files; `apex_installer.read.fatbin`.
"""

from __future__ import annotations

import os
import struct
from typing import List, NamedTuple, Sequence

from apex_installer.errors import CheckError, CompileError
from apex_installer.read.elf_image import ElfImage
from apex_installer.read.fatbin import SECTIONS, SIZE_AT, Container, read_containers

_ALIGNMENT = 64
"""What follows a section is moved by a multiple of this, more than nvcc or gcc asks for."""
_TYPE_AT, _RELOCATABLE = 16, 1
_TABLE_AT, _COUNT_AT = 40, 58
_KIND_AT, _OFFSET_AT, _SIZE_AT = 4, 24, 32
"""In a section's header."""
_NO_BYTES = 8


class _Section(NamedTuple):
    header: int
    """Where its header lies in the file."""
    start: int
    size: int


def prune_object(path: str, *, arch: str, out: str) -> bool:
    """Write to `out` the object with the machine code of `arch` (`9.0`) alone, and no PTX.

    False, and nothing written, where it holds no device code. CompileError where it holds some but
    not for `arch`, or is no object.
    """
    try:
        with ElfImage(path) as image:
            if image.unpack("<H", _TYPE_AT) != (_RELOCATABLE,):
                raise CompileError(f"{path}: is not an object file")
            containers = [one for one in read_containers(image) if one.codes]
            if not containers:
                return False
            pruned = _prune(image, containers, arch=arch)
    except CheckError as error:
        raise CompileError(str(error)) from error
    part = f"{out}.part"
    with open(part, "wb") as file:
        file.write(pruned)
    os.replace(part, out)
    return True


def _prune(image: ElfImage, containers: Sequence[Container], *, arch: str) -> bytes:
    data = bytearray(image.data)
    starts = [start for name, start, size in image.sections() if name in SECTIONS and size]
    if not starts:  # a table of more than 16 bits
        raise CompileError(f"{image.path}: has more sections than can be told")
    # From the last one on: what is cut out moves only what comes after it.
    for start in sorted(starts, reverse=True):
        (section,) = [one for one in _sections(data) if one.start == start and one.size]
        end = start + section.size
        inside = [one for one in containers if start <= one.start < end]
        _replace(data, section, _kept(image, start, inside, arch=arch), _sections(data))
    return bytes(data)


def _kept(image: ElfImage, start: int, containers: Sequence[Container], *, arch: str) -> bytes:
    """The section's new bytes. Containers stay where they begin: relocations point there."""
    kept = bytearray()
    for one in containers:
        own = [code for code in one.codes if code.is_machine_code and code.arch == arch]
        if not own:
            raise CompileError(f"{image.path}: holds no machine code for {arch}")
        code = b"".join(image.data[piece.start : piece.end] for piece in own)
        header = bytearray(image.data[one.start : one.first])
        struct.pack_into("<Q", header, SIZE_AT, len(code))
        kept += bytes(one.start - start - len(kept)) + header + code
    return bytes(kept)


def _replace(
    data: bytearray, section: _Section, content: bytes, sections: Sequence[_Section]
) -> None:
    """Put `content` in the section's place, and move what comes after it."""
    end = section.start + section.size
    cut = (section.size - len(content)) // _ALIGNMENT * _ALIGNMENT
    struct.pack_into("<Q", data, section.header + _SIZE_AT, len(content))
    for one in sections:
        if one.start >= end:
            struct.pack_into("<Q", data, one.header + _OFFSET_AT, one.start - cut)
    (table,) = struct.unpack_from("<Q", data, _TABLE_AT)
    if table >= end:
        struct.pack_into("<Q", data, _TABLE_AT, table - cut)
    data[section.start : end] = content.ljust(section.size - cut, b"\0")


def _sections(data: bytearray) -> List[_Section]:
    """All that have bytes, as the table in `data` has them now."""
    (table,) = struct.unpack_from("<Q", data, _TABLE_AT)
    size, count = struct.unpack_from("<HH", data, _COUNT_AT)
    places = [table + size * number for number in range(count)]
    places = [
        one for one in places if struct.unpack_from("<I", data, one + _KIND_AT)[0] != _NO_BYTES
    ]
    return [
        _Section(place, *struct.unpack_from("<QQ", data, place + _OFFSET_AT)) for place in places
    ]
