"""The installer's documents: per index path and Python, all entries, suffixed ones too."""

from __future__ import annotations

import json
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from apex_installer.model.entry import Document
from wheelbuild.index.paths import document_path, python_tag, rebase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apex_installer.model.entry import Entry


def document_pages(entries: Iterable[Entry]) -> dict[str, bytes]:
    """Path -> bytes of every document; yanked entries are in it, for `pick` says why it refuses."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(document_path(entry), []).append(entry)
    return {path: _document(path, listed) for path, listed in sorted(found.items())}


def _document(path: str, listed: list[Entry]) -> bytes:
    folder = posixpath.dirname(path)
    document = Document(
        index_path=folder,
        python=python_tag(listed[0]),
        entries=tuple(replace(e, url=rebase(e.url, start="", to=folder)) for e in listed),
    )
    # No blanks: a pod fetches and parses this at every start.
    return (json.dumps(document.to_json(), separators=(",", ":"), sort_keys=True) + "\n").encode()
