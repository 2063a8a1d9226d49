"""The source of a ref as an archive: from the cache, or from the index's `sources.json`."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Callable, Dict, Mapping, Optional

from apex_installer.errors import TrustError
from apex_installer.get.cache import Cache
from apex_installer.get.http import NotFoundError
from apex_installer.get.supply import PinnedFile, Supply, at
from apex_installer.get.url import Url

DOCUMENT = "sources.json"
SCHEMA = 1
MAX_DOCUMENT = 1 << 20
FOLDER = "sources"
ENDINGS = (".tar.gz", ".tgz", ".tar.xz")


def is_archive(path: str) -> bool:
    """Whether a `--source` is an archive, not a folder."""
    return os.path.isfile(path) and path.endswith(ENDINGS)


def find_archive(
    commit: str, *, index_url: Optional[str], cache: Cache, supply: Supply
) -> Optional[str]:
    """Path of the verified archive of this commit; None where neither cache nor index has one.

    `cache` is the one that `supply` fills. DownloadError where the index cannot be reached,
    TrustError where what it says makes no sense.
    """
    kept = _read_kept(commit, cache)
    if kept is not None:
        return supply.get_all([kept])[0]
    listed = _listed(commit, index_url=index_url, supply=supply)
    if listed is None:
        return None
    path = supply.get_all([listed])[0]
    _keep(commit, listed, cache)
    return path


def _listed(commit: str, *, index_url: Optional[str], supply: Supply) -> Optional[PinnedFile]:
    if not index_url:
        return None
    base = Url.of_folder(index_url)
    url = supply.allowed(base.joined(DOCUMENT).text, "the index's list of sources")
    with supply.fetcher() as fetcher:
        try:
            text = fetcher.fetch(url, limit=MAX_DOCUMENT)
        except NotFoundError:
            return None
        return _parse(text, commit, where=url, join=lambda one: fetcher.join(url, one))


def _parse(
    text: bytes, commit: str, *, where: str, join: Callable[[str], str]
) -> Optional[PinnedFile]:
    shown = Url.parse(where).shown
    try:
        data: Dict[str, Any] = json.loads(text)
        if data["schema"] != SCHEMA:
            raise TrustError(
                f"{shown}: schema {data['schema']}, this program reads {SCHEMA}: "
                "fetch a newer apex-install.pyz"
            )
        found: Optional[Mapping[str, Any]] = data["sources"].get(commit)
        return None if found is None else _wanted(found, address=join(str(found["url"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrustError(f"{shown}: not a list of sources: {error}") from error


def _wanted(found: Mapping[str, Any], *, address: str) -> PinnedFile:
    file, sha256 = str(found["file"]), str(found["sha256"])
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not re.fullmatch(r"[\w.+-]+", file):
        raise ValueError(f"{file!r} {sha256!r}")
    return PinnedFile(file, sha256, int(found["size"]), (at(address),))


def _path(commit: str, cache: Cache) -> str:
    return os.path.join(cache.location.directory, FOLDER, f"{commit}.json")


def _read_kept(commit: str, cache: Cache) -> Optional[PinnedFile]:
    """What an earlier run or `prefetch` left, if its bytes are there still."""
    try:
        with open(_path(commit, cache), encoding="utf-8") as file:
            wanted = _wanted(json.load(file), address="")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return wanted if cache.wheel(wanted.sha256) else None


def _keep(commit: str, wanted: PinnedFile, cache: Cache) -> None:
    """A cache that takes nothing is survived: then the next start asks the index again."""
    path = _path(commit, cache)
    part = f"{path}.part.{os.getpid()}-{os.urandom(4).hex()}"
    facts = {"file": wanted.file, "sha256": wanted.sha256, "size": wanted.size}
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps(facts))
        os.replace(part, path)
    except OSError:
        return
