"""Entries of an index: a folder, or a live one of which nothing but its static files is known.

A static server lists no folder. What it holds of the wanted cells stands in the installer's
documents, one per index path and Python: these are asked for, and nothing else.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import apex_installer
from apex_installer.errors import TrustError
from apex_installer.model.entry import Document
from wheelbuild.errors import IndexReadError, UsageError
from wheelbuild.known_failures import FILE, parse_failures, read_failures
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.web import Web

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apex_installer.model.cell import Cell
    from apex_installer.model.entry import Entry
    from wheelbuild.known_failures import KnownFailure

AT_ONCE = 8
"""Requests in flight: a document is small, and most of its time is the way."""


def read_entries(place: str, cells: Iterable[Cell], *, web: Web | None = None) -> tuple[Entry, ...]:
    """Every entry of a folder or `file://` index; of a live one (https, http) those of the cells.

    A document that a live index does not have means that nothing is published there; an index that
    has none at all must have a front page, else IndexReadError: a wrong address would rebuild all.
    """
    folder = _folder_of(place)
    if folder is not None:
        return DirectoryStore(folder).entries()
    names = document_names(cells)
    root, reader = _root(place), web or Web()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda name: _read_document(root, name, reader), names))
    if names and all(one is None for one in found) and reader.get(f"{root}index.html") is None:
        raise IndexReadError(f"{root}index.html: not there: is this the address of an index?")
    return tuple(entry for listed in found for entry in listed or ())


def read_known(place: str, *, web: Web | None = None) -> tuple[KnownFailure, ...]:
    """What an index knows not to build; DataError where its file is none."""
    folder = _folder_of(place)
    if folder is not None:
        return read_failures(folder)
    page = (web or Web()).get(f"{_root(place)}{FILE}")
    return parse_failures(page.content.decode("utf-8", "replace")) if page else ()


def _folder_of(place: str) -> Path | None:
    """None for a live index."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme in {"https", "http"}:
        return None
    if "://" in place:
        raise UsageError(f"--index {place}: a folder, or an https, http or file address")
    return Path(place)


def _root(place: str) -> str:
    return place if place.endswith("/") else f"{place}/"


def document_names(cells: Iterable[Cell]) -> tuple[str, ...]:
    """`cu121/torch2.4/install-cp310.json` of each cell, once, sorted. Pure."""
    return tuple(sorted({f"{cell.index_path}/{Document.name_for(cell.python)}" for cell in cells}))


def _read_document(root: str, name: str, web: Web) -> tuple[Entry, ...] | None:
    url = f"{root}{name}"
    page = web.get(url)
    if page is None:
        return None
    try:
        document = Document.from_json(
            json.loads(page.content), where=url, installer=apex_installer.__version__
        )
    except ValueError as error:
        raise IndexReadError(f"{url}: not JSON: is it an index, or a sign-in page?") from error
    except TrustError as error:
        raise IndexReadError(str(error)) from error
    if f"{document.index_path}/{Document.name_for(document.python)}" != name:
        raise IndexReadError(f"{url}: is the document of {document.index_path} {document.python}")
    return tuple(replace(entry, url=urljoin(page.url, entry.url)) for entry in document.entries)
