"""The installer's document: all entries of one index path and Python, by explicit file name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from apex_installer.errors import NoWheelError, TrustError
from apex_installer.get.http import Fetcher, NotFoundError
from apex_installer.get.url import Url
from apex_installer.model.entry import Document
from apex_installer.values import replace

if TYPE_CHECKING:
    from apex_installer.model.cell import Cell

MAX_DOCUMENT = 16 << 20
"""Bytes; a document of a hundred wheels is about 200 kB."""


def fetch_document(index_url: str, cell: Cell, *, fetcher: Fetcher, installer: str) -> Document:
    """What the index holds for this cell's index path and Python; its entries' URLs made absolute.

    NoWheelError where the index has no such document (nothing was built for this torch, CUDA and
    Python); DownloadError where it cannot be reached; TrustError where it is no such document.
    """
    url = document_url(index_url, cell)
    shown = Url.parse(url).shown
    try:
        text = fetcher.fetch(url, limit=MAX_DOCUMENT)
    except NotFoundError as error:
        raise NoWheelError(
            f"the index has nothing for {cell.python}, torch {cell.torch_text}, {cell.cuda_tag} "
            f"({shown} is not there): check --index-url, or ask its keeper for that cell"
        ) from error
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
    base = Url.parse(index_url if index_url.endswith("/") else f"{index_url}/")
    return base.joined(f"{cell.index_path}/{Document.name_for(cell.python)}").text
