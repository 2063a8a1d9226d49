"""The two hash tables by which a symbol is found in a shared object.

Sources: System V gABI, "Hash Table"; binutils' description of DT_GNU_HASH; glibc
`elf/dl-lookup.c` (`do_lookup_x`), whose order of steps this follows.
"""

from __future__ import annotations

import functools
from typing import Iterable, Iterator, NamedTuple, Optional, Union

from apex_installer.errors import CheckError
from apex_installer.read.elf_image import DT_GNU_HASH, DT_HASH, ElfImage


class HashedName(NamedTuple):
    """A symbol's name, ready to be looked up."""

    text: bytes
    """With its closing NUL."""
    gnu: int


@functools.lru_cache(maxsize=4096)
def hash_name(name: str) -> HashedName:
    """Encode once: the same few hundred names are looked up in some thirty libraries."""
    text = name.encode("utf-8", "surrogateescape")
    return HashedName(text + b"\0", gnu_hash(text))


def gnu_hash(name: bytes) -> int:
    """DT_GNU_HASH's function: Bernstein's, 32 bits."""
    value = 5381
    for byte in name:
        value = value * 33 + byte
    return value & 0xFFFFFFFF


@functools.lru_cache(maxsize=4096)
def sysv_hash(name: bytes) -> int:
    """The gABI's function; version records hold it too."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        value = (value ^ ((value & 0xF0000000) >> 24)) & 0x0FFFFFFF
    return value


class GnuHash:
    """DT_GNU_HASH: a Bloom filter, buckets, and chains of hashes whose lowest bit ends a chain."""

    def __init__(self, image: ElfImage) -> None:
        """Map the filter and the buckets; no page of them is read yet."""
        at = image.offset_of(DT_GNU_HASH)
        self._buckets_count, self._first, self._words, self._shift = image.unpack("<IIII", at)
        if not self._words:
            raise CheckError(f"{image.path}: is damaged: a hash table without a filter")
        self._image = image
        self._filter = image.view("Q", at + 16, self._words)
        buckets_at = at + 16 + 8 * self._words
        self._buckets = image.view("I", buckets_at, self._buckets_count)
        self._chains = buckets_at + 4 * self._buckets_count

    def candidates(self, name: HashedName) -> Iterable[int]:
        """Indices of symbols with the name's hash; most questions end at the filter."""
        wanted = name.gnu
        word = self._filter[(wanted >> 6) % self._words]
        if not (word >> (wanted & 63)) & (word >> ((wanted >> self._shift) & 63)) & 1:
            return ()
        if not self._buckets_count:
            return ()
        index = self._buckets[wanted % self._buckets_count]
        return self._chain(index, wanted) if index >= max(self._first, 1) else ()

    def _chain(self, index: int, wanted: int) -> Iterator[int]:
        while True:
            (found,) = self._image.unpack("<I", self._chains + 4 * (index - self._first))
            if (found ^ wanted) >> 1 == 0:
                yield index
            if found & 1:
                return
            index += 1

    def count_symbols(self) -> int:
        """Symbols in the table: the end of the last chain, for undefined ones come first."""
        index = max(self._buckets, default=0)
        if index < self._first:
            return self._first
        while not self._image.unpack("<I", self._chains + 4 * (index - self._first))[0] & 1:
            index += 1
        return index + 1


class SysvHash:
    """DT_HASH: buckets, and one link per symbol; every symbol of a chain is a candidate."""

    def __init__(self, image: ElfImage) -> None:
        """Map buckets and links; no page of them is read yet."""
        at = image.offset_of(DT_HASH)
        self._buckets_count, self._links_count = image.unpack("<II", at)
        self._image = image
        self._buckets = image.view("I", at + 8, self._buckets_count)
        self._links = image.view("I", at + 8 + 4 * self._buckets_count, self._links_count)

    def candidates(self, name: HashedName) -> Iterator[int]:
        """Indices of symbols in the name's chain."""
        if not self._buckets_count:
            return
        index = self._buckets[sysv_hash(name.text[:-1]) % self._buckets_count]
        for _ in range(self._links_count):
            if not 0 < index < self._links_count:
                return
            yield index
            index = self._links[index]

    def count_symbols(self) -> int:
        """Symbols in the table."""
        return self._links_count


HashTable = Union[GnuHash, SysvHash]


def read_hash_table(image: ElfImage) -> Optional[HashTable]:
    """The table that glibc would use; None for a file that defines nothing findable."""
    if DT_GNU_HASH in image.dynamic:
        return GnuHash(image)
    return SysvHash(image) if DT_HASH in image.dynamic else None
