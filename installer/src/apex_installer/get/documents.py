"""The installer's document: all entries of one index path and Python, by explicit file name.

    <cache>/documents/<digest of its address>.json    as it was last fetched; its mtime says when

A kept one takes the place of an index that cannot be reached. What it lists is believed no more
and no less than what a server lists: by sha256.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Optional

from apex_installer.errors import NoWheelError, TrustError
from apex_installer.get.http import Fetcher, NotFoundError
from apex_installer.get.url import Url
from apex_installer.get.whole import remove, write_whole
from apex_installer.model.entry import Document
from apex_installer.values import replace

if TYPE_CHECKING:
    from apex_installer.get.cache import Cache
    from apex_installer.model.cell import Cell

MAX_DOCUMENT = 16 << 20
"""Bytes; a document of a hundred wheels is about 200 kB."""
FOLDER = "documents"
_DIGITS = 32


class Kept(NamedTuple):
    """A document that the cache kept."""

    document: Document
    when: str
    """`2026-11-26 10:22 UTC`: when it was last fetched."""


def fetch_document(index_url: str, cell: Cell, *, fetcher: Fetcher, installer: str) -> Document:
    """What the index holds for this cell's index path and Python; its entries' URLs made absolute.

    NoWheelError where the index has no such document (nothing was built for this torch, CUDA and
    Python); DownloadError where it cannot be reached; TrustError where it is no such document.
    """
    text = fetch_text(index_url, cell, fetcher=fetcher)
    return read_document(text, index_url, cell, fetcher=fetcher, installer=installer)


def fetch_text(
    index_url: str, cell: Cell, *, fetcher: Fetcher, attempts: Optional[int] = None
) -> bytes:
    """The document as it is served; errors as of `fetch_document`."""
    url = document_url(index_url, cell)
    try:
        return fetcher.fetch(url, limit=MAX_DOCUMENT, attempts=attempts)
    except NotFoundError as error:
        raise NoWheelError(
            f"the index has nothing for {cell.python}, torch {cell.torch_text}, {cell.cuda_tag} "
            f"({Url.parse(url).shown} is not there): check --index-url, or ask its keeper for "
            "that cell"
        ) from error


def read_document(
    text: bytes, index_url: str, cell: Cell, *, fetcher: Fetcher, installer: str
) -> Document:
    """The value of what was served or kept; TrustError where it is no such document."""
    url = document_url(index_url, cell)
    shown = Url.parse(url).shown
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrustError(
            f"{shown}: not JSON ({str(error)[:80]}); is this the index, or a sign-in page?"
        ) from error
    document = Document.from_json(data, where=shown, installer=installer)
    if (document.index_path, document.python) != (cell.index_path, cell.python):
        raise TrustError(
            f"{shown}: is the document of {document.index_path} {document.python}, "
            f"not of {cell.index_path} {cell.python}"
        )
    return replace(
        document,
        entries=tuple(
            replace(entry, url=fetcher.join(url, entry.url)) for entry in document.entries
        ),
    )


def document_url(index_url: str, cell: Cell) -> str:
    """`<index>/cu121/torch2.4/install-cp310.json`."""
    base = Url.of_folder(index_url)
    return base.joined(f"{cell.index_path}/{Document.name_for(cell.python)}").text


def kept_path(cache: Cache, index_url: str, cell: Cell) -> Optional[str]:
    """Where the cache keeps the document; None for a file:// index, and without a cache of ours."""
    import hashlib  # noqa: PLC0415 - not for a file:// index

    address = Url.parse(document_url(index_url, cell))
    folder = None if address.scheme == "file" else cache.place(FOLDER)
    if folder is None:
        return None
    named = address._replace(credentials="").text  # a token changes, the index does not
    return os.path.join(folder, f"{hashlib.sha256(named.encode()).hexdigest()[:_DIGITS]}.json")


def keep_document(path: str, text: bytes) -> None:
    """For the next pod that cannot reach the index; a cache that takes nothing is survived."""
    with suppress(OSError):
        if _read(path) == text:
            os.utime(path)
        else:
            write_whole(path, text)


def find_kept(
    path: str, index_url: str, cell: Cell, *, fetcher: Fetcher, installer: str
) -> Optional[Kept]:
    """None where nothing is kept, or nothing that could be read."""
    try:
        text, fetched = _read(path), os.stat(path).st_mtime
        document = read_document(text, index_url, cell, fetcher=fetcher, installer=installer)
    except OSError:
        return None
    except TrustError:
        remove(path)
        return None
    return Kept(document, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(fetched)))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
