"""A ZIP archive, read strictly: one archive, one meaning.

zipfile is not used: its import costs 16 ms at every install, and it opens archives that other
readers see differently (data before or behind, headers that disagree, overlapping members), which
is what parser-differential attacks on wheels are made of. What PyPI refuses is refused here.
Sources: PKWARE APPNOTE 6.3.10, 4.3 to 4.5; for the refusals Warehouse's `utils/zipfiles.py`.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from typing import Callable, Iterator, List, NamedTuple, Tuple

from apex_installer.errors import TrustError

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_EXTRA = struct.Struct("<2H")
END_MARK, CENTRAL_MARK, LOCAL_MARK = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04"
STORED, DEFLATED = 0, 8
UTF8 = 0x800
DEFLATE_LEVEL = 0x6
"""Bits that only say how hard the writer tried."""
ELSEWHERE = 0xFFFFFFFF
"""A size or offset that stands in a ZIP64 field instead."""
ZIP64, UNICODE_PATH = 0x0001, 0x7075
"""Extra fields that would give a member a second size or a second name."""
MAX_DIRECTORY = 16 << 20
MAX_MEMBERS = 20_000
MAX_RATIO = 60
"""Expanded : packed. Device code packs about 4 : 1, sources 5 : 1."""
RATIO_FREE = 16 << 20
"""Small archives may expand to this much at any ratio."""
MAX_EXPANDED = 8 << 30
CHUNK = 128 * 1024


Read = Callable[[int, int], bytes]
"""(count, position) -> bytes of the archive."""


class Member(NamedTuple):
    """One file of the archive."""

    name: str
    start: int
    """Where its packed bytes begin."""
    packed: int
    size: int
    method: int
    mode: int
    """Unix mode with the file type, or 0 where the archive does not say."""

    @property
    def is_executable(self) -> bool:
        """Whether anyone may execute it."""
        return bool(self.mode & 0o111)

    @property
    def is_plain_file(self) -> bool:
        """Not a link, a device or a directory."""
        return stat.S_IFMT(self.mode) in (0, stat.S_IFREG) and not self.name.endswith("/")


class Directory(NamedTuple):
    """The archive's own list of its members, and the bytes it was read from."""

    members: Tuple[Member, ...]
    tail: bytes
    """From `tail_start` to the end of the file: central directory and end record."""
    tail_start: int


def read_directory(fd: int, *, size: int) -> Directory:
    """Read and cross-check all headers; TrustError with the first thing that is wrong.

    Member names are as written: whether they are safe to use is for the caller to say.
    """
    end = os.pread(fd, _END.size, max(0, size - _END.size))
    if len(end) < _END.size or end[:4] != END_MARK:
        raise TrustError("is not a zip archive, is cut off, or has bytes behind its end")
    _, disk, first_disk, here, count, length, start, comment = _END.unpack(end)
    if disk or first_disk or here != count or comment:
        raise TrustError("has a malformed end record")
    if length > MAX_DIRECTORY or count > MAX_MEMBERS:
        raise TrustError(f"has {count} members in a directory of {length} bytes, which is too many")
    if start + length + _END.size != size:
        raise TrustError("has bytes before its beginning, or a wrong directory offset")
    tail = os.pread(fd, length, start) + end
    entries = list(_read_central(tail[:length], count))
    members = _read_local(fd, entries, end=start)
    _check_sizes(members, size)
    return Directory(members, tail, start)


def expand(read: Read, member: Member) -> Iterator[bytes]:
    """The member's bytes in pieces of at most CHUNK; TrustError where they are not its size.

    The CRC is not computed: the caller compares sha256.
    """
    left, position, end = member.size, member.start, member.start + member.packed
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None
    while position < end:
        packed = read(min(CHUNK, end - position), position)
        if not packed:
            break
        position += len(packed)
        while packed:
            piece = _inflated(inflate, packed, member.name) if inflate else packed
            packed = inflate.unconsumed_tail if inflate else b""
            left -= len(piece)
            if left < 0:
                raise TrustError(f"{member.name} is longer than its header says")
            yield piece
    if left or (inflate and (not inflate.eof or inflate.unused_data)):
        raise TrustError(f"{member.name} is shorter than its header says")


def _inflated(inflate: zlib._Decompress, packed: bytes, name: str) -> bytes:
    try:
        return inflate.decompress(packed, CHUNK)
    except zlib.error as error:
        raise TrustError(f"{name} cannot be unpacked: {error}") from error


class _Central(NamedTuple):
    """A header of the central directory, as far as the local one must repeat it."""

    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int

    @property
    def name(self) -> str:
        try:
            return self.raw_name.decode("utf-8" if self.flags & UTF8 else "ascii")
        except UnicodeDecodeError:
            raise TrustError(f"has a member name that cannot be read: {self.raw_name!r}") from None


def _read_central(data: bytes, count: int) -> Iterator[_Central]:
    position = 0
    for _ in range(count):
        header = data[position : position + _CENTRAL.size]
        if len(header) < _CENTRAL.size or header[:4] != CENTRAL_MARK:
            raise TrustError("has a malformed central directory")
        (
            _,
            _,
            _,
            flags,
            method,
            _,
            _,
            crc,
            packed,
            size,
            name_length,
            extra_length,
            comment_length,
        ) = _CENTRAL.unpack(header)[:13]
        disk, _, attributes, offset = _CENTRAL.unpack(header)[13:]
        position += _CENTRAL.size
        raw_name = data[position : position + name_length]
        extra = data[position + name_length : position + name_length + extra_length]
        position += name_length + extra_length + comment_length
        if position > len(data):
            raise TrustError("has a malformed central directory")
        entry = _Central(raw_name, flags, method, crc, packed, size, offset, attributes >> 16)
        _check_header(entry, extra, disk=disk)
        yield entry
    if position != len(data):
        raise TrustError("has more in its central directory than it counts")


def _check_header(entry: _Central, extra: bytes, *, disk: int) -> None:
    name = entry.raw_name[:80].decode("ascii", "backslashreplace")
    if entry.flags & ~(UTF8 | DEFLATE_LEVEL):
        raise TrustError(f"has {name} encrypted, streamed or patched (flags {entry.flags:#x})")
    if entry.method not in (STORED, DEFLATED):
        raise TrustError(f"has {name} packed by method {entry.method}, not stored or deflated")
    if entry.method == STORED and entry.packed != entry.size:
        raise TrustError(f"has {name} stored in another size than its own")
    if disk or ELSEWHERE in (entry.packed, entry.size, entry.offset):
        raise TrustError(f"has {name} in ZIP64, which no wheel of ours needs")
    _check_extra(extra, name)


def _check_extra(extra: bytes, name: str) -> None:
    position = 0
    while position < len(extra):
        if position + _EXTRA.size > len(extra):
            raise TrustError(f"has a malformed extra field at {name}")
        kind, length = _EXTRA.unpack_from(extra, position)
        position += _EXTRA.size + length
        if kind in (ZIP64, UNICODE_PATH) or position > len(extra):
            raise TrustError(f"has a second size or name for {name} in an extra field")


def _read_local(fd: int, entries: List[_Central], *, end: int) -> Tuple[Member, ...]:
    """Local headers must repeat the central ones, and lie end to end from 0 to the directory."""
    starts = {}
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        name = entry.raw_name[:80].decode("ascii", "backslashreplace")
        data = os.pread(fd, _LOCAL.size + len(entry.raw_name), entry.offset)
        if entry.offset != position or len(data) < _LOCAL.size or data[:4] != LOCAL_MARK:
            raise TrustError(f"has a gap or an overlap before {name}")
        (_, _, flags, method, _, _, crc, packed, size, name_length, extra_length) = _LOCAL.unpack(
            data[: _LOCAL.size]
        )
        found = (data[_LOCAL.size :], name_length, flags, method, crc, packed, size)
        wanted = (entry.raw_name, len(entry.raw_name), entry.flags, entry.method)
        if found != (*wanted, entry.crc, entry.packed, entry.size):
            raise TrustError(f"has two headers for {name} that disagree")
        start = position + _LOCAL.size + name_length + extra_length
        if extra_length:
            _check_extra(os.pread(fd, extra_length, start - extra_length), name)
        starts[entry.offset] = start
        position = start + entry.packed
    if position != end:
        raise TrustError("has bytes between its members and its directory")
    return tuple(
        Member(e.name, starts[e.offset], e.packed, e.size, e.method, e.mode) for e in entries
    )


def _check_sizes(members: Tuple[Member, ...], size: int) -> None:
    expanded = sum(member.size for member in members)
    if expanded > MAX_EXPANDED or expanded > max(RATIO_FREE, MAX_RATIO * size):
        raise TrustError(
            f"would expand from {size >> 10} kB to {expanded >> 20} MB, which no wheel does"
        )
