"""The entries, checked and sorted into index paths: what every page is made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from wheelbuild.errors import PublishError
from wheelbuild.index.paths import index_path, project_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apex_installer.model.entry import Entry

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_SUFFIX = re.compile(r"([a-z0-9]+(\.[a-z0-9]+)*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One index path and its entries, oldest build first."""

    path: str
    entries: tuple[Entry, ...]

    @property
    def projects(self) -> dict[str, tuple[Entry, ...]]:
        """Normalized name -> entries."""
        names = sorted({project_name(entry) for entry in self.entries})
        return {
            name: tuple(entry for entry in self.entries if project_name(entry) == name)
            for name in names
        }


def newest_version(entries: Iterable[Entry]) -> str | None:
    """The version that the pip line names: the newest that is not yanked, or None."""
    versions = {entry.version for entry in entries if entry.yanked is None}
    return max(versions, key=Version, default=None)


def sort_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Every entry once, by version, build tag and file; PublishError for what no page may say."""
    once = {entry.sha256: entry for entry in entries}.values()
    faults = [fault for entry in once for fault in _faults(entry)]
    if faults:
        raise PublishError("\n".join(faults))
    ordered = sorted(once, key=lambda e: (Version(e.version), e.build_tag, e.file, e.sha256))
    for file, same in groupby(sorted(ordered, key=lambda e: e.file), key=lambda e: e.file):
        if len(digests := [entry.sha256 for entry in same]) > 1:
            raise PublishError(f"{file}: held by {len(digests)} entries: {', '.join(digests)}")
    return tuple(ordered)


def list_paths(entries: Iterable[Entry]) -> tuple[Listing, ...]:
    """One listing per index path, sorted entries in, paths in the order of their numbers."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(index_path(entry), []).append(entry)
    return tuple(
        Listing(path=path, entries=tuple(found[path])) for path in sorted(found, key=_numeric)
    )


def _numeric(path: str) -> list[tuple[str, int]]:
    """So that torch2.10 comes after torch2.9."""
    return [(word, int(part or 0)) for word, part in re.findall(r"(\D+)(\d*)", path)]


def _faults(entry: Entry) -> list[str]:
    """Pages are read by machines: names hold what names may hold, and nothing else."""
    try:
        Version(entry.version)
        version = True
    except InvalidVersion:
        version = False
    checks = (
        (_FILE.fullmatch(entry.file), "is not the file name of a wheel"),
        (_NAME.fullmatch(entry.distribution), f"{entry.distribution!r} is not a name (PEP 503)"),
        (_SUFFIX.fullmatch(entry.suffix), f"{entry.suffix!r} is not a suffix such as norm.sm90"),
        (version, f"{entry.version!r} is not a version (PEP 440)"),
        (_is_web_or_relative(entry.url), f"{entry.url!r} is not a web or a relative address"),
        (re.fullmatch(r"[0-9a-f]{64}", entry.sha256), f"{entry.sha256!r} is not a sha256"),
        (re.fullmatch(r"[0-9a-f]{64}", entry.metadata_sha256), "metadata_sha256 is not a sha256"),
    )
    return [f"{entry.file!r:.99}: {fault}" for good, fault in checks if not good]


def _is_web_or_relative(url: str) -> bool:
    scheme, place = urlsplit(url)[:2]
    return bool(place) if scheme in {"https", "http"} else not (scheme or place)
