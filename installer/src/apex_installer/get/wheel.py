"""One wheel: from the cache, or downloaded into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

from apex_installer.errors import DeadlineError, DownloadError

if TYPE_CHECKING:
    from apex_installer.get.cache import Cache
    from apex_installer.get.http import Fetcher
    from apex_installer.model.entry import Entry


def fetch_wheel(entry: Entry, *, url: str, cache: Cache, fetcher: Fetcher) -> Tuple[str, int]:
    """The wheel's path, and how many bytes were downloaded (0 from the cache).

    DownloadError, DeadlineError: what was had is kept for the next run. TrustError: nothing is.
    """
    path = cache.wheel(entry.sha256)
    if path is not None:
        return path, 0
    part = cache.part_for(entry.sha256, size=entry.size)
    try:
        count = fetcher.download(url, part, sha256=entry.sha256, size=entry.size)
    except (DownloadError, DeadlineError):
        cache.keep_part(part)
        raise
    return cache.publish(part, sha256=entry.sha256, file=entry.file), count
