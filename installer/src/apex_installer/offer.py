"""What can be had: the index's document as it is served, or as the cache kept it."""

from __future__ import annotations

import os
from typing import FrozenSet, Optional, Tuple

import apex_installer
from apex_installer.errors import DeadlineError, DownloadError
from apex_installer.get.documents import (
    fetch_text,
    find_kept,
    keep_document,
    kept_path,
    read_document,
)
from apex_installer.get.http import Fetcher
from apex_installer.get.url import Url
from apex_installer.model.cell import Cell
from apex_installer.model.entry import Entry
from apex_installer.pick import Wishes, pick
from apex_installer.situation import Situation
from apex_installer.values import dataclass

SHORT_SECONDS = 10.0
"""At most so long, and a quarter of the deadline, is an index waited for whose document is kept."""
SHORT_ATTEMPTS = 2


@dataclass(frozen=True)
class Offer:
    """Entries, and which of their wheels can be had."""

    entries: Tuple[Entry, ...]
    at_hand: Optional[FrozenSet[str]] = None
    """sha256 of the only ones, those in the cache; None: all."""


def read_offer(index_url: str, cell: Cell, *, fetcher: Fetcher, situation: Situation) -> Offer:
    """Ask the index. The kept document takes its place when it cannot be reached in a short time.

    Where nothing of the kept one fits, the index gets all of the time that is left. Errors as of
    `fetch_document`: what a reachable index says is never replaced.
    """
    path = kept_path(situation.cache, index_url, cell)
    if situation.request.offline and not index_url.startswith("file:"):
        offer = _kept(path, index_url, cell, fetcher, situation, why="--offline")
        if offer is None:
            raise DownloadError(
                f"--offline, and the cache keeps no document of {Url.parse(index_url).shown}: "
                "name a file:// index, or start once with a network"
            )
        return offer
    if path is None or not os.path.exists(path):
        return _served(path, index_url, cell, fetcher, situation)
    deadline = situation.deadline
    try:
        with deadline.narrowed(min(SHORT_SECONDS, deadline.remaining() / 4)):
            return _served(path, index_url, cell, fetcher, situation, attempts=SHORT_ATTEMPTS)
    except (DownloadError, DeadlineError) as error:
        fetcher.close()
        offer = _kept(path, index_url, cell, fetcher, situation, why=str(error))
        if offer is not None and _fits(offer, situation):
            return offer
    return _served(path, index_url, cell, fetcher, situation)


def wishes_for(offer: Offer, situation: Situation) -> Wishes:
    """What is asked of the offer's entries; who shares target or cache matters to variants alone.

    The wheel in a cache that pods share is what they have when the index cannot be reached.
    """
    shared = ""
    if any(entry.variant for entry in offer.entries):
        from apex_installer.read.sharing import why_shared  # noqa: PLC0415 - few indexes have any

        location = situation.cache.location
        cache = f"other pods read {location.directory}" if location.outlives_pod else ""
        shared = why_shared(situation.environment.target) or cache
    return Wishes(modules=situation.modules, at_hand=offer.at_hand, plain_only=shared)


def _served(
    path: Optional[str],
    index_url: str,
    cell: Cell,
    fetcher: Fetcher,
    situation: Situation,
    *,
    attempts: Optional[int] = None,
) -> Offer:
    text = fetch_text(index_url, cell, fetcher=fetcher, attempts=attempts)
    document = read_document(
        text, index_url, cell, fetcher=fetcher, installer=apex_installer.__version__
    )
    if path is not None and not situation.request.dry_run:
        keep_document(path, text)
    return Offer(document.entries)


def _kept(
    path: Optional[str],
    index_url: str,
    cell: Cell,
    fetcher: Fetcher,
    situation: Situation,
    *,
    why: str,
) -> Optional[Offer]:
    version = apex_installer.__version__
    kept = path and find_kept(path, index_url, cell, fetcher=fetcher, installer=version)
    if not kept:
        return None
    situation.account.find(f"index: its document of {kept.when} from the cache ({why})")
    return Offer(kept.document.entries, situation.cache.held())


def _fits(offer: Offer, situation: Situation) -> bool:
    return pick(offer.entries, situation.environment, wishes_for(offer, situation)).best is not None
