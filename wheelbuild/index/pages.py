"""Render a whole index. Pure: the same entries, in any order, give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelbuild.index.documents import document_pages
from wheelbuild.index.listing import list_paths, sort_entries
from wheelbuild.index.overview import overview_page
from wheelbuild.index.simple import simple_pages
from wheelbuild.variants import choose_offered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apex_installer.model.entry import Entry


def render(entries: Iterable[Entry], *, covered: bool = False) -> Mapping[str, bytes]:
    """Path -> bytes of every page, in the order to write them: what leads to a page comes after it.

    An entry's `url` is relative to the index's root, or absolute. `covered`: whether the front
    page leads to one of coverage. PublishError, every fault at once, for an entry that no page may
    hold.
    """
    ordered = sort_entries(entries)
    listings = list_paths(ordered)
    offered = choose_offered(ordered)
    pages: dict[str, bytes] = {}
    for listing in list_paths(offered):
        pages.update(simple_pages(listing))
    pages.update(document_pages(offered))
    pages["index.html"] = overview_page(listings, covered=covered)
    return pages
