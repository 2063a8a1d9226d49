"""A wheel that is only looked at: its modules into a folder, by the strict reader where it can.

Foreign wheels may be what an install would refuse (ZIP64, streamed members); these are read by
zipfile, within the same limits on size and names.
"""

from __future__ import annotations

import os
import struct
from contextlib import contextmanager
from functools import partial
from typing import IO, Callable, Iterator, NamedTuple, Tuple

from apex_installer.errors import DownloadError, TrustError
from apex_installer.put.archive import CHUNK, Member, expand, read_directory
from apex_installer.put.wheel_rules import is_safe

MOST_UNPACKED = 4 << 30
"""Bytes of modules and libraries."""


class Unpacked(NamedTuple):
    """What was found in a wheel."""

    names: Tuple[str, ...]
    """All members."""
    note: str
    """Why an install would refuse this archive; empty where it would not."""


def unpack_some(wheel: str, *, into: str, wanted: Callable[[str], bool]) -> Unpacked:
    """Write the wanted members below `into`; TrustError for what nobody can read."""
    try:
        with _writing():
            return Unpacked(_unpack_strictly(wheel, into, wanted), "")
    except TrustError as error:
        refused = str(error)
    names = _unpack_loosely(wheel, into, wanted)
    return Unpacked(names, f"an install would refuse this archive: it {refused}")


def _unpack_strictly(wheel: str, into: str, wanted: Callable[[str], bool]) -> Tuple[str, ...]:
    fd = os.open(wheel, os.O_RDONLY | os.O_CLOEXEC)
    try:
        members = read_directory(fd, size=os.fstat(fd).st_size).members
        chosen = [one for one in members if wanted(one.name)]
        _check(sum(one.size for one in chosen), [one.name for one in chosen])
        for member in chosen:
            _write_member(member, fd, into)
        return tuple(one.name for one in members)
    finally:
        os.close(fd)


def _write_member(member: Member, fd: int, into: str) -> None:
    with _create(into, member.name) as out:
        for piece in expand(partial(os.pread, fd), member):
            out.write(piece)


def _unpack_loosely(wheel: str, into: str, wanted: Callable[[str], bool]) -> Tuple[str, ...]:
    import zipfile  # noqa: PLC0415 - only for what the strict reader refuses
    import zlib  # noqa: PLC0415 - the same

    # What is no UTF-8, or a number that cannot be, comes out of zipfile as it was met.
    odd = (ValueError, OverflowError, struct.error)
    faults = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, *odd)
    try:
        with _writing(), zipfile.ZipFile(wheel) as archive:
            chosen = {item.filename: item for item in archive.infolist() if wanted(item.filename)}
            _check(sum(item.file_size for item in chosen.values()), chosen)
            for name, item in chosen.items():
                with archive.open(item) as source, _create(into, name) as out:
                    _copy(source, out, most=item.file_size)
            return tuple(archive.namelist())
    except faults as error:
        raise TrustError(f"{wheel}: cannot be read as a wheel: {error}") from error


def _copy(source: IO[bytes], out: IO[bytes], *, most: int) -> None:
    while True:
        piece = source.read(CHUNK)
        most -= len(piece)
        if most < 0:
            raise TrustError("is longer than its header says")
        if not piece:
            return
        out.write(piece)


def _check(size: int, names: object) -> None:
    unsafe = [name for name in names if not is_safe(name)]  # type: ignore[attr-defined]
    if unsafe:
        raise TrustError(f"holds {unsafe[0]!r}, which leads outside or is no plain path")
    if size > MOST_UNPACKED:
        raise TrustError(f"holds modules of {size >> 20} MB, more than {MOST_UNPACKED >> 20} MB")


def _create(into: str, name: str) -> IO[bytes]:
    path = os.path.join(into, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return open(path, "wb")


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise DownloadError(f"cannot unpack: {why}; free some space or set TMPDIR") from error
