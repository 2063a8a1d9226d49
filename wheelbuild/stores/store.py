"""What publishing asks of a place that holds an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from apex_installer.model.entry import Entry


class Store(Protocol):
    """Files by content, entries by the sha256 of their wheel, and pages that are made from them.

    Every write is whole or not there, and what was written stays after the call: publishing writes
    the file, then its entry, then the pages, so that a reader never meets a page whose file is
    missing, however it ends.
    """

    @property
    def directory(self) -> Path:
        """The folder of its pages, which holds what is beside them, too."""

    def locked(self) -> AbstractContextManager[None]:
        """One publisher at a time; the next one waits."""

    def entries(self) -> tuple[Entry, ...]:
        """Return every entry; its `url` is absolute, or relative to the index's root."""

    def put_file(self, file: Path, *, sha256: str, sidecar: bytes | None = None) -> str:
        """Keep a file, and its metadata at `<url>.metadata` (PEP 658); return its URL as above.

        Once kept, a file is never changed; PublishError where `file` has another digest.
        """

    def put_entry(self, entry: Entry) -> None:
        """Keep the entry of a file that is kept; one for the same sha256 is replaced."""

    def write_pages(self, pages: Mapping[str, bytes]) -> tuple[str, ...]:
        """Write all pages, in this order; drop those that are no more; return what changed."""

    def read_page(self, name: str) -> bytes | None:
        """Return what a page holds now, or None where there is none."""
