"""A file that is being filled: continued, hashed as it grows, believed only when it is whole."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Optional, Type, Union

from apex_installer.errors import DownloadError, TrustError
from apex_installer.get.cache import SPARE_BYTES

if TYPE_CHECKING:
    from types import TracebackType

CHUNK = 256 * 1024
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_RANGE = re.compile(r"^bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)$")


class ServedAnewError(Exception):
    """What an earlier run left was wrong and is gone: fetch the file from its start."""


class Part:
    """The file on disk.

    `received` counts bytes of this run alone; `longest` is what it ever held, which a server that
    begins anew each time and never gets further does not raise.
    """

    def __init__(self, path: str, *, sha256: str, size: int, where: str) -> None:
        """`where` is the address, for errors."""
        self.received = 0
        self.length = 0
        self.longest = 0
        self._path, self._sha256, self._size, self._where = path, sha256, size, where
        self._hash = hashlib.sha256()
        self._from_earlier = False
        self._fd = -1

    def __enter__(self) -> Part:
        """Open, and hash what an earlier run left."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o644)
            self._reread()
        except OSError as error:
            if self._fd >= 0:
                os.close(self._fd)
            raise self._unwritable(error) from error
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Bytes that cannot be right are not left for the next run."""
        os.close(self._fd)
        if isinstance(error, TrustError) or (error and not self.length):
            self._remove()

    @property
    def complete(self) -> bool:
        """Whether an earlier run had it all."""
        return self.length == self._size and self._hash.hexdigest() == self._sha256

    def check_room(self) -> None:
        """DownloadError when the disk cannot hold the rest."""
        place = os.path.dirname(self._path) or "."
        needed = self._size - self.length + SPARE_BYTES
        disk = os.statvfs(place)
        free = disk.f_bavail * disk.f_frsize
        if disk.f_blocks and free < needed:  # some network file systems count nothing
            self._remove_if_empty()
            raise DownloadError(
                f"no disk: {place} has {free >> 20} of {needed >> 20} MB for {self._where}; "
                "free some or say --cache-dir"
            )

    def check_announced(self, length: Optional[int]) -> None:
        """TrustError when a whole answer is of another size than the index says."""
        if length is not None and length != self._size:
            raise TrustError(f"{self._where}: is {length} bytes, the index says {self._size}")

    def check_range(self, content_range: str) -> None:
        """A continuation must begin where we stopped; else the file is fetched anew."""
        match = _RANGE.match(content_range)
        if match and int(match.group(1)) == self.length:
            if match.group(3) != "*":
                self.check_announced(int(match.group(3)))
            return
        self.restart()
        raise ServedAnewError

    def write(self, piece: Union[bytes, memoryview]) -> None:
        """Append; TrustError for more than the file's size."""
        if self.length + len(piece) > self._size:
            raise TrustError(f"{self._where}: is longer than the {self._size} bytes of the index")
        try:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise self._unwritable(error) from error
        self._hash.update(piece)
        self.length += len(piece)
        self.longest = max(self.longest, self.length)
        self.received += len(piece)

    def copy_from(self, source: int, *, check: Callable[[str], None]) -> None:
        """Fill from an open file, which is closed; `check` is the deadline's."""
        self.restart()
        try:
            self.check_announced(os.fstat(source).st_size)
            while self.length < self._size:
                check(f"copying {self._where}")
                try:
                    piece = os.read(source, CHUNK)
                except OSError as error:
                    raise DownloadError(f"{self._where}: {error.strerror}") from error
                if not piece:
                    break
                self.write(piece)
        finally:
            os.close(source)
        self.finish()

    def finish(self) -> None:
        """The last word on the bytes."""
        if self.length < self._size:
            raise TrustError(f"{self._where}: is {self.length} bytes, the index says {self._size}")
        if self._hash.hexdigest() == self._sha256:
            return
        if self._from_earlier:
            self.restart()
            raise ServedAnewError
        raise TrustError(
            f"{self._where}: sha256 is {self._hash.hexdigest()}, the index says {self._sha256}"
        )

    def restart(self) -> None:
        """Forget what is there."""
        if self.length:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.length = 0
        self._from_earlier = False

    def _reread(self) -> None:
        while True:
            piece = os.read(self._fd, CHUNK)
            if not piece:
                break
            self._hash.update(piece)
            self.length += len(piece)
        self.longest = self.length
        self._from_earlier = self.length > 0
        if self.length > self._size or (self.length == self._size and not self.complete):
            self.restart()

    def _unwritable(self, error: OSError) -> DownloadError:
        if error.errno in DISK_FULL:
            self._remove()
        return DownloadError(
            f"cannot write {self._path}: {error.strerror}; free some space or say --cache-dir"
        )

    def _remove(self) -> None:
        with suppress(OSError):  # nothing that the next run could not deal with
            os.unlink(self._path)

    def _remove_if_empty(self) -> None:
        if not self.length:
            self._remove()
