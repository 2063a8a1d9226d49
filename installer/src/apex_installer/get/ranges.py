"""Single files out of a wheel that lies on a server, by range requests (RFC 9110, 14).

NVIDIA's wheel of cuBLAS is 400 MB, its headers 40 kB. What is read is believed by the wheel's own
RECORD, and that by its pinned sha256.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from typing import Callable, Dict, List

from apex_installer.errors import DownloadError, TrustError
from apex_installer.get.http import Fetcher

BLOCK = 128 * 1024
"""Bytes per request; a wheel's headers lie side by side."""


def read_members(
    url: str,
    *,
    size: int,
    record_sha256: str,
    wanted: Callable[[str], bool],
    fetcher: Fetcher,
) -> Dict[str, bytes]:
    """Name -> bytes of every wanted member of the wheel of `size` bytes at `url`.

    NoRangesError where the server sends no ranges; TrustError where RECORD is not the pinned one,
    or a member is not RECORD's; DownloadError as for any file.
    """
    shown = url.rpartition("/")[2]
    file = _Remote(url, size=size, fetcher=fetcher)
    try:
        with zipfile.ZipFile(file) as archive:
            records = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
            record = archive.read(records[0]) if len(records) == 1 else b""
            if hashlib.sha256(record).hexdigest() != record_sha256:
                raise TrustError(f"{shown}: its RECORD is not the pinned one")
            digests = _digests(record)
            names = [name for name in archive.namelist() if wanted(name)]
            members = {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise TrustError(f"{shown}: not the wheel that was pinned: {error}") from error
    wrong = [name for name, data in members.items() if digests.get(name) != _digest(data)]
    if wrong:
        raise TrustError(f"{shown}: {wrong[0]} is not what RECORD says")
    return members


def _digests(record: bytes) -> Dict[str, str]:
    rows: List[List[str]] = list(csv.reader(io.StringIO(record.decode("utf-8", "replace"))))
    return {row[0]: row[1] for row in rows if len(row) > 1}


def _digest(data: bytes) -> str:
    raw = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={raw.decode('ascii')}"


class _Remote(io.RawIOBase):
    """The file on the server, read in blocks that are asked for once."""

    def __init__(self, url: str, *, size: int, fetcher: Fetcher) -> None:
        self._url, self._size, self._fetcher = url, size, fetcher
        self._at = 0
        self._blocks: Dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._at + count, self._size)
        pieces: List[bytes] = []
        while self._at < end:
            number = self._at // BLOCK
            start = self._at - number * BLOCK
            piece = self._block(number)[start : start + end - self._at]
            if not piece:
                raise DownloadError(f"{self._url.rpartition('/')[2]}: the server cut a range short")
            pieces.append(piece)
            self._at += len(piece)
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            start = number * BLOCK
            length = min(BLOCK, self._size - start)
            self._blocks[number] = self._fetcher.fetch_range(self._url, start=start, length=length)
        return self._blocks[number]
