"""An ELF file as the dynamic loader maps it: program headers, dynamic section, strings.

Nothing is loaded or relocated; the file is mapped and only the pages that are asked for are read.
Sources: System V gABI chapters 4 and 5, `elf.h` of glibc.
"""

from __future__ import annotations

import functools
import mmap
import os
import struct
import sys
from typing import Dict, Iterator, List, Optional, Tuple

from apex_installer.closing import Closing
from apex_installer.errors import CheckError

MACHINES = {"x86_64": 62, "aarch64": 183}
"""`uname -m` -> e_machine."""

DT_NEEDED, DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ = 1, 2, 4, 5, 6, 7, 8
DT_STRSZ, DT_SONAME, DT_RPATH, DT_JMPREL, DT_RUNPATH = 10, 14, 15, 23, 29
DT_GNU_HASH, DT_VERSYM, DT_RELACOUNT = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFF9
DT_VERDEF, DT_VERNEED = 0x6FFFFFFC, 0x6FFFFFFE
_PT_LOAD, _PT_DYNAMIC = 1, 2
_SHT_NOBITS = 8
_HEADER_SIZE, _ELFCLASS64, _ELFDATA2LSB = 64, 2, 1


class ElfImage(Closing):
    """One mapped file; a context manager. CheckError for anything but a sane 64-bit ELF file."""

    def __init__(self, path: str) -> None:
        """Map the file and read its headers; OSError as `open` has it."""
        self.path = path
        self._views: List[memoryview] = []
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            self.identity = (status.st_dev, status.st_ino)
            if not status.st_size:
                raise CheckError(f"{path}: is empty, not an ELF file")
            self.data = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            # Read ahead, a hundred pages here and there of torch's libraries became 226 MB.
            self.data.madvise(mmap.MADV_RANDOM)
        finally:
            os.close(descriptor)
        try:
            self._read_headers()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unmap; nothing may be asked afterwards."""
        while self._views:
            self._views.pop().release()
        self.data.close()

    def forget_pages(self) -> None:
        """Count the pages that were read as ours no longer; they stay in the page cache."""
        self.data.madvise(mmap.MADV_DONTNEED)

    @functools.cached_property
    def needed(self) -> Tuple[str, ...]:
        """DT_NEEDED, in order."""
        return tuple(self.string(offset) for offset in self._needed)

    @property
    def soname(self) -> Optional[str]:
        """DT_SONAME."""
        return self._dynamic_string(DT_SONAME)

    @property
    def rpath(self) -> Optional[str]:
        """DT_RPATH, which counts only where there is no DT_RUNPATH."""
        return None if DT_RUNPATH in self.dynamic else self._dynamic_string(DT_RPATH)

    @property
    def runpath(self) -> Optional[str]:
        """DT_RUNPATH."""
        return self._dynamic_string(DT_RUNPATH)

    def sections(self) -> Iterator[Tuple[str, int, int]]:
        """(name, file offset, size) of every section with bytes; none if the table was stripped."""
        (table,) = self.unpack("<Q", 40)
        size, count, names = self.unpack("<HHH", 58)
        if not table or not count:
            return
        headers = [self.unpack("<IIQQQQ", table + size * number) for number in range(count)]
        if names >= count:
            raise CheckError(f"{self.path}: is damaged: its section names are in no section")
        for name_at, kind, _, _, offset, length in headers:
            if kind not in (0, _SHT_NOBITS):
                yield self.text(headers[names][4] + name_at), offset, length

    def unpack(self, form: str, offset: int) -> Tuple[int, ...]:
        """Numbers at a file offset."""
        try:
            return struct.unpack_from(form, self.data, offset)
        except (struct.error, OverflowError) as error:
            raise CheckError(f"{self.path}: is cut short or damaged: {error}") from error

    def bytes_at(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes."""
        found = self.data[offset : offset + max(size, 0)]
        if len(found) != size:
            raise CheckError(f"{self.path}: is cut short: {size} bytes expected at {offset}")
        return found

    def view(self, form: str, offset: int, count: int) -> memoryview:
        """`count` numbers of the file without a copy; `close` releases them."""
        size = count * struct.calcsize(form)
        with memoryview(self.data) as whole:
            part = whole[offset : offset + size]
        self._views.append(part)
        if len(part) != size:
            raise CheckError(f"{self.path}: is cut short: {size} bytes expected at {offset}")
        numbers = part.cast(form)  # type: ignore[call-overload]
        self._views.append(numbers)
        return numbers  # type: ignore[no-any-return]

    def offset_of(self, tag: int) -> int:
        """Where in the file the address of a dynamic entry lies; 0 where there is no such entry."""
        address = self.dynamic.get(tag)
        if address is None:
            return 0
        for start, end, offset in self._segments:
            if start <= address < end:
                return offset + address - start
        raise CheckError(f"{self.path}: is damaged: address {address:#x} is in no segment")

    def string(self, offset: int) -> str:
        """A name in the dynamic string table."""
        return self.text(self.strings + offset)

    def text(self, start: int) -> str:
        """The NUL-terminated text at a file offset."""
        end = self.data.find(b"\0", start) if 0 <= start < len(self.data) else -1
        if end < 0:
            raise CheckError(f"{self.path}: is damaged: the name at {start} has no end")
        return self.data[start:end].decode("utf-8", "surrogateescape")

    def _dynamic_string(self, tag: int) -> Optional[str]:
        offset = self.dynamic.get(tag)
        return None if offset is None else self.string(offset)

    def _read_headers(self) -> None:
        data = self.data
        if data[:4] != b"\x7fELF" or len(data) < _HEADER_SIZE:
            raise CheckError(f"{self.path}: is not an ELF file")
        if data[4] != _ELFCLASS64 or data[5] != _ELFDATA2LSB or sys.byteorder != "little":
            raise CheckError(f"{self.path}: is not a 64-bit little-endian ELF file")
        (self.machine,) = self.unpack("<H", 18)
        (headers_at,) = self.unpack("<Q", 32)
        (count,) = self.unpack("<H", 56)
        self._segments: List[Tuple[int, int, int]] = []
        self.dynamic: Dict[int, int] = {}
        self._needed: List[int] = []
        for number in range(count):
            kind, _, offset, address, _, size = self.unpack("<IIQQQQ", headers_at + 56 * number)
            if kind == _PT_LOAD:
                self._segments.append((address, address + size, offset))
            elif kind == _PT_DYNAMIC:
                self._read_dynamic(offset, size)
        self.strings = self.offset_of(DT_STRTAB)
        self.symbols = self.offset_of(DT_SYMTAB)

    def _read_dynamic(self, offset: int, size: int) -> None:
        for tag, value in struct.iter_unpack("<QQ", self.bytes_at(offset, size - size % 16)):
            if tag == 0:
                break
            if tag == DT_NEEDED:
                self._needed.append(value)
            else:
                self.dynamic[tag] = value
