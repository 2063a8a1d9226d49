"""Litter: what killed runs left in the cache. Whole wheels and results are never collected.

`<cache>/collected` is touched by who collects, at most once a day for all pods. Ages are told by
its mtime, which is the volume's clock and not this pod's.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from typing import Iterator, Tuple

from apex_installer.get.cache import Cache

STAMP = "collected"
DAY = 86_400.0
WEEK = 7 * DAY
MOST = 2000
"""Names that are looked at in one run."""
SECONDS = 1.0
"""After so long the rest is left to another day, for an app waits."""
AGES = {
    "wheels": DAY,  # parts, and empty folders of a publish that was killed
    "files": DAY,  # the same of archives and build requirements
    "compiled": DAY,
    "documents": DAY,
    "leases": DAY,  # a holder touches its own every few seconds
    "failures": WEEK,  # longer than any of them is heeded
}
BY_CONTENT = ("wheels", "files")


def is_due(cache: Cache) -> bool:
    """Whether a day has passed; false where nothing was ever cached. One stat."""
    folder = cache.place("")
    if folder is None or not os.path.isdir(folder):
        return False
    try:
        age = time.time() - os.stat(os.path.join(folder, STAMP)).st_mtime
    except OSError:
        return True
    return not 0 <= age < DAY


def collect(cache: Cache) -> int:
    """Remove litter that is old enough; returns how many things. Never fails."""
    folder, removed, ends = cache.place("") or "", 0, time.monotonic() + SECONDS
    try:
        now = _touch(os.path.join(folder, STAMP))
        for path, age in _candidates(folder):
            if time.monotonic() > ends:
                break
            with suppress(OSError):  # another pod was quicker, or it is in use
                if now - os.lstat(path).st_mtime > age:
                    _remove(path)
                    removed += 1
    except OSError:
        return removed  # read-only, or gone
    return removed


def is_litter(folder: str, name: str) -> bool:
    """Whether what has this name in that folder is nothing whole."""
    if folder in ("leases", "failures"):
        return True
    return name.endswith(".part") or ".part." in name


def _candidates(root: str) -> Iterator[Tuple[str, float]]:
    seen = 0
    for folder, age in AGES.items():
        place = os.path.join(root, folder)
        for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
            seen += 1
            if seen > MOST:
                return
            path = os.path.join(place, name)
            # rmdir removes the folder of a wheel or a file only if it is empty.
            if is_litter(folder, name) or folder in BY_CONTENT:
                yield path, age


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        os.rmdir(path)
    else:
        os.unlink(path)


def _touch(path: str) -> float:
    with open(path, "ab"):
        pass
    os.utime(path)
    return os.stat(path).st_mtime
