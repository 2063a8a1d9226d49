"""Write all pages of an index into its store, the front page last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelbuild.index.pages import render
from wheelbuild.index.paths import COVERAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apex_installer.model.entry import Entry
    from wheelbuild.stores.store import Store


def write_index(
    entries: Iterable[Entry], *, store: Store, beside: Mapping[str, bytes] | None = None
) -> tuple[str, ...]:
    """Write what the entries render to, after the pages `beside` them; return what changed.

    The front page leads to the page of coverage where there is one. The caller holds the lock.
    """
    more = beside or {}
    covered = COVERAGE in more or store.read_page(COVERAGE) is not None
    return store.write_pages({**more, **render(entries, covered=covered)})
