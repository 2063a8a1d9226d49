"""Symbol versions: what a file asks of its libraries, and what it defines itself.

Source: Linux Standard Base, "Symbol Versioning"; glibc `elf/dl-version.c`.
"""

from __future__ import annotations

from typing import Dict, Iterator, NamedTuple

from apex_installer.errors import CheckError
from apex_installer.read.elf_image import DT_VERDEF, DT_VERNEED, ElfImage

INDEX = 0x7FFF
"""Of a version index; the bit above it hides a definition from unversioned lookups."""
HIDDEN = 0x8000
_WEAK = 2
_BASE = 1
_LIMIT = 1 << 16
"""Records followed in one list: a damaged file must not loop for ever."""


class VersionNeed(NamedTuple):
    """A symbol version that a library must define, whoever uses it."""

    library: str
    """Needed soname."""
    version: str
    hash: int
    """As the file states it: the loader compares it before the text."""
    weak: bool


class VersionDefinition(NamedTuple):
    """A version that a file defines."""

    version: str
    hash: int


def read_needs(image: ElfImage) -> Dict[int, VersionNeed]:
    """DT_VERNEED: version index -> need."""
    found: Dict[int, VersionNeed] = {}
    for at in _records(image, image.offset_of(DT_VERNEED), "<HHIII", 4):
        _, count, file_at, first, _ = image.unpack("<HHIII", at)
        library = image.string(file_at)
        for aux in _records(image, at + first, "<IHHII", 4, limit=count):
            stated, flags, index, name_at, _ = image.unpack("<IHHII", aux)
            found[index & INDEX] = VersionNeed(
                library, image.string(name_at), stated, bool(flags & _WEAK)
            )
    return found


def read_definitions(image: ElfImage) -> Dict[int, VersionDefinition]:
    """DT_VERDEF: version index -> definition, the file's own name (the base version) left out."""
    found: Dict[int, VersionDefinition] = {}
    for at in _records(image, image.offset_of(DT_VERDEF), "<HHHHIII", 6):
        _, flags, index, _, stated, first, _ = image.unpack("<HHHHIII", at)
        if not flags & _BASE:
            (name_at,) = image.unpack("<I", at + first)
            found[index & INDEX] = VersionDefinition(image.string(name_at), stated)
    return found


def _records(
    image: ElfImage, at: int, form: str, next_field: int, *, limit: int = _LIMIT
) -> Iterator[int]:
    """File offsets of a list whose every record says how far off the next one is."""
    for _ in range(min(limit, _LIMIT)):
        if not at:
            return
        yield at
        step = image.unpack(form, at)[next_field]
        if not step:
            return
        at += step
    if limit >= _LIMIT:
        raise CheckError(f"{image.path}: is damaged: its version records have no end")
