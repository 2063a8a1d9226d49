"""Compiled wheels in the cache, by key: one pod compiles, the next of its kind takes the result.

`compiled/<key>.json` is the entry; the wheel lies beside all others, by its sha256. The entry comes
last and at once, so that whoever finds it finds a whole wheel.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Optional, Tuple

from apex_installer.errors import TrustError
from apex_installer.get.cache import Cache
from apex_installer.model.entry import Entry

FOLDER = "compiled"


def find_result(cache: Cache, key: str) -> Optional[Tuple[str, Entry]]:
    """(path of the verified wheel, its entry) of an earlier compile; None where there is none."""
    path = _path(cache, key)
    try:
        with open(path, encoding="utf-8") as file:
            entry = Entry.from_json(json.load(file), where=path)
    except (OSError, ValueError, TrustError):
        return None
    wheel = cache.wheel(entry.sha256) if entry.key == key else None
    return (wheel, entry) if wheel else None


def keep_result(cache: Cache, wheel: str, entry: Entry) -> str:
    """Copy a wheel into the cache and publish its entry; returns the cached path.

    OSError and DownloadError pass.
    """
    part = cache.part_for(entry.sha256, size=entry.size)
    shutil.copyfile(wheel, part)
    kept = cache.publish(part, sha256=entry.sha256, file=entry.file)
    if cache.is_temporary:
        return kept
    path = _path(cache, entry.key)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    fresh = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(json.dumps(entry.to_json()))
    os.replace(fresh, path)
    return kept


def _path(cache: Cache, key: str) -> str:
    return os.path.join(cache.location.directory, FOLDER, f"{key}.json")
