"""Compiled wheels in the cache, by key: one pod compiles, the next of its kind takes the result.

`compiled/<key>.json` is the entry; the wheel lies beside all others, by its sha256. The entry comes
last and at once, so that whoever finds it finds a whole wheel, and it comes once: of two pods that
compiled the same, the second takes what the first published and drops its own.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Optional, Tuple

from apex_installer.errors import DownloadError, TrustError
from apex_installer.get.cache import Cache
from apex_installer.get.whole import remove, write_once
from apex_installer.model.entry import Entry

FOLDER = "compiled"
ENDING = ".json"
MOST = 200
"""Entries that are looked at; a volume for pods of a dozen kinds holds a few dozen."""


def kept_results(cache: Cache) -> Tuple[Entry, ...]:
    """What any pod has compiled; which of it fits is the question of `pick`."""
    folder = cache.place(FOLDER)
    try:
        names = sorted(os.listdir(folder)) if folder else []
    except OSError:
        return ()
    paths = [os.path.join(folder or "", name) for name in names if name.endswith(ENDING)]
    read = [_read(path) for path in paths[:MOST]]
    return tuple(entry for entry in read if entry is not None)


def find_result(cache: Cache, key: str) -> Optional[Tuple[str, Entry]]:
    """(path of the verified wheel, its entry) of an earlier compile; None where there is none."""
    path = result_path(cache, key)
    entry = _read(path) if path else None
    if entry is None or entry.key != key:
        return None
    wheel = cache.wheel(entry.sha256)
    return (wheel, entry) if wheel else None


def keep_result(cache: Cache, wheel: str, entry: Entry) -> Tuple[str, Entry]:
    """Publish a wheel under its key; returns what is kept there: another pod's if it was first.

    OSError and DownloadError pass; nothing half is left.
    """
    earlier = find_result(cache, entry.key)
    if earlier is not None:
        return earlier
    kept, path = _copy(cache, wheel, entry), result_path(cache, entry.key)
    if path is None or cache.is_temporary:
        return kept, entry
    content = json.dumps(entry.to_json()).encode()
    if write_once(path, content):
        return kept, entry
    earlier = find_result(cache, entry.key)
    if earlier is None:
        # An entry whose wheel is gone, or no entry at all: it is only in the way.
        remove(path)
        write_once(path, content)
        return kept, entry
    if earlier[1].sha256 != entry.sha256:
        _drop(kept)
    return earlier


def forget_result(cache: Cache, key: str) -> None:
    """Let the next pod compile it anew."""
    path = result_path(cache, key)
    if path:
        remove(path)


def result_path(cache: Cache, key: str) -> Optional[str]:
    """Where the entry of this key lies or would lie; None without a cache to be trusted."""
    folder = cache.place(FOLDER)
    return os.path.join(folder, f"{key}{ENDING}") if folder else None


def _copy(cache: Cache, wheel: str, entry: Entry) -> str:
    part = cache.part_for(entry.sha256, size=entry.size)
    try:
        shutil.copyfile(wheel, part)
        return cache.publish(part, sha256=entry.sha256, file=entry.file)
    except (OSError, DownloadError):
        remove(part)
        raise


def _drop(wheel: str) -> None:
    remove(wheel)
    try:
        os.rmdir(os.path.dirname(wheel))
    except OSError:
        return  # litter, which is collected one day


def _read(path: str) -> Optional[Entry]:
    try:
        with open(path, encoding="utf-8") as file:
            return Entry.from_json(json.load(file), where=path)
    except (OSError, ValueError, TrustError):
        return None
