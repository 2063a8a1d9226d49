"""Verify a wheel's bytes, all faults at once, and unpack it from the same open file.

What is unpacked is what was verified, also where another process writes to the file meanwhile:
RECORD and the archive's directory are held in memory, the sha256 of the whole file is computed
over *those* bytes in their place, and every member is compared with that RECORD as it is written.
"""

from __future__ import annotations

import hashlib
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Set, Tuple

from apex_installer.closing import Closing
from apex_installer.errors import TrustError
from apex_installer.put.archive import Directory, Member, expand, read_directory
from apex_installer.put.record import Row, digest_text, parse_record
from apex_installer.put.wheel_rules import (
    ALL_RULES,
    RECORD,
    Subject,
    dist_info_names,
    parse_fields,
    record_name,
)
from apex_installer.threads import map_in_threads
from apex_installer.values import dataclass

if TYPE_CHECKING:
    from apex_installer.model.entry import Entry
    from apex_installer.model.recipe import Recipe

MAX_TEXT = 16 << 20
"""Bytes of RECORD, METADATA and WHEEL, each."""
CHUNK = 256 * 1024
WORTH_A_THREAD = 2 << 20
MAX_THREADS = 4


@dataclass(frozen=True)
class WheelContents(Closing):
    """A verified wheel, held open. A context manager."""

    path: str
    fd: int
    entry: Entry
    dist_info: str
    """Name of its dist-info folder."""
    members: Tuple[Member, ...]
    rows: Mapping[str, Row]
    """RECORD by path, as it was verified."""
    record: bytes

    @property
    def size(self) -> int:
        """Bytes when unpacked."""
        return sum(member.size for member in self.members)

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def verify_wheel(path: str, *, entry: Entry, recipe: Recipe) -> WheelContents:
    """Everything but the members' own digests, which `unpack` compares as it writes.

    TrustError holds every fault in one line: size and sha256 against the entry, the archive's
    framing, names, one dist-info of the entry's name, version and tags, RECORD both ways, modules,
    and nothing that is not on the allow-list.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise TrustError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return _verified(path, fd, entry, recipe)
    except BaseException:
        os.close(fd)
        raise


def _verified(path: str, fd: int, entry: Entry, recipe: Recipe) -> WheelContents:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise TrustError(f"{path}: is not a plain file")
    if found.st_size != entry.size:
        raise TrustError(f"{entry.file}: is {found.st_size} bytes, the index says {entry.size}")
    broken: Optional[TrustError] = None
    directory = Directory((), b"", found.st_size)
    held: List[Tuple[int, bytes]] = []
    record = b""
    try:
        directory = read_directory(fd, size=found.st_size)
        held, record = _hold_record(fd, directory)
    except TrustError as error:
        broken = error
    digest = _digest_with(fd, [*held, (directory.tail_start, directory.tail)], found.st_size)
    if digest != entry.sha256:
        raise TrustError(f"{entry.file}: sha256 is {digest}, the index says {entry.sha256}")
    if broken:
        raise TrustError(f"{entry.file}: {broken}") from broken
    rows, faults = _rows_of(record)
    subject = _subject(fd, directory.members, rows, entry, recipe)
    faults += [fault for rule in ALL_RULES for fault in rule(subject)]
    if faults:
        raise TrustError(f"{entry.file}: {'; '.join(dict.fromkeys(faults))}")
    return WheelContents(
        path, fd, entry, subject.dist_info, directory.members, subject.rows, record
    )


def _hold_record(fd: int, directory: Directory) -> Tuple[List[Tuple[int, bytes]], bytes]:
    """RECORD's packed bytes with their place, and RECORD itself expanded from those very bytes."""
    name = record_name(directory.members)
    member = next((m for m in directory.members if m.name == name), None)
    if member is None or member.size > MAX_TEXT or member.packed > MAX_TEXT:
        return [], b""
    packed = os.pread(fd, member.packed, member.start)

    def read(count: int, position: int) -> bytes:
        return packed[position - member.start :][:count]

    return [(member.start, packed)], b"".join(expand(read, member))


def _digest_with(fd: int, held: List[Tuple[int, bytes]], size: int) -> str:
    """sha256 of the file, taking the held bytes from memory and only the rest from the file."""
    digest = hashlib.sha256()
    position = 0
    for start, data in sorted(held):
        _digest_range(fd, position, start, digest)
        digest.update(data)
        position = start + len(data)
    _digest_range(fd, position, size, digest)
    return digest.hexdigest()


def _digest_range(fd: int, position: int, end: int, digest: hashlib._Hash) -> None:
    while position < end:
        data = os.pread(fd, min(CHUNK, end - position), position)
        if not data:
            return  # cut off meanwhile: the digest will not agree
        digest.update(data)
        position += len(data)


def _rows_of(record: bytes) -> Tuple[Tuple[Row, ...], List[str]]:
    try:
        return parse_record(record.decode("utf-8")), []
    except ValueError as error:
        return (), [f"RECORD cannot be read: {error}"]


def _subject(
    fd: int, members: Tuple[Member, ...], rows: Tuple[Row, ...], entry: Entry, recipe: Recipe
) -> Subject:
    names = dist_info_names(members)
    dist_info = names[0] if names else ""
    by_name = {member.name: member for member in members}
    by_path = {row.path: row for row in rows}
    texts = {
        name: _text(fd, by_name.get(f"{dist_info}/{name}"), by_path)
        for name in ("METADATA", "WHEEL")
    }
    return Subject(
        entry=entry,
        recipe=recipe,
        members=members,
        row_list=rows,
        rows=by_path,
        dist_info=dist_info,
        metadata=parse_fields(texts["METADATA"]),
        wheel=parse_fields(texts["WHEEL"]),
        metadata_sha256=hashlib.sha256(texts["METADATA"]).hexdigest(),
    )


def _text(fd: int, member: Optional[Member], rows: Mapping[str, Row]) -> bytes:
    """A small member whose bytes are those of RECORD, else nothing (which is then missed)."""
    if member is None or member.size > MAX_TEXT:
        return b""
    try:
        data = b"".join(expand(partial(os.pread, fd), member))
    except TrustError:
        return b""
    row = rows.get(member.name)
    return data if row and row.digest == digest_text(hashlib.sha256(data).digest()) else b""


def unpack(contents: WheelContents, stage: str, *, mtime: int) -> Dict[str, int]:
    """Write every member but RECORD below `stage` (which exists and is empty); sizes by path.

    Modes are 0644 or 0755 whatever the archive says, mtimes the whole second `mtime`. Each file is
    hashed as it is written; TrustError names all that are not what RECORD says. OSError passes.
    """
    record = f"{contents.dist_info}/{RECORD}"
    members = [member for member in contents.members if member.name != record]
    made = {""}
    previous = os.umask(0o022)
    try:
        for member in members:
            make_parents(stage, member.name, made)
        faults = map_in_threads(
            lambda member: _write(contents, member, os.path.join(stage, member.name), mtime),
            sorted(members, key=lambda member: member.size),
            threads=_threads_for(sum(member.size for member in members)),
        )
    finally:
        os.umask(previous)
    wrong = [fault for fault in faults if fault]
    if wrong:
        raise TrustError(f"{contents.entry.file}: {'; '.join(sorted(wrong))}")
    return {member.name: member.size for member in members}


def _threads_for(size: int) -> int:
    """Expanding and hashing 10 MB takes 50 ms of one core, mostly without Python's lock."""
    if size < WORTH_A_THREAD:
        return 1
    return max(1, min(MAX_THREADS, len(os.sched_getaffinity(0))))


def make_parents(root: str, name: str, made: Set[str]) -> None:
    """The folders above `name`; `made` remembers them."""
    parent = name.rpartition("/")[0]
    if parent not in made:
        make_parents(root, parent, made)
        os.mkdir(os.path.join(root, parent), 0o755)
        made.add(parent)


def _write(contents: WheelContents, member: Member, path: str, mtime: int) -> Optional[str]:
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    out = os.open(path, flags, 0o755 if member.is_executable else 0o644)
    try:
        for piece in expand(partial(os.pread, contents.fd), member):
            digest.update(piece)
            view = memoryview(piece)
            while view:
                view = view[os.write(out, view) :]
        os.utime(out, (mtime, mtime))
    except TrustError as error:
        return str(error)
    finally:
        os.close(out)
    if digest_text(digest.digest()) == contents.rows[member.name].digest:
        return None
    return f"{member.name} is not what RECORD says"
