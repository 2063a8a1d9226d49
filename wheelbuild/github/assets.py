"""Put one file among a release's assets: whole, under its own name, or not at all."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wheelbuild.errors import PublishError
from wheelbuild.github.api import Interrupted, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wheelbuild.github.releases import Asset, Release, Releases

logger = logging.getLogger(__name__)

LIMIT = 2 << 30
"""Bytes; GitHub takes less than this."""
_ATTEMPTS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What an asset shall hold: a file, or bytes."""

    name: str
    size: int
    sha256: str
    source: Path | bytes

    @classmethod
    def of_file(cls, path: Path) -> Content:
        """PublishError for one that GitHub would not take."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        if not 0 < size < LIMIT:
            raise PublishError(f"{path.name}: {size} bytes; a release takes 1 to {LIMIT - 1}")
        return cls(name=path.name, size=size, sha256=digest, source=path)

    @classmethod
    def of_bytes(cls, name: str, content: bytes) -> Content:
        digest = hashlib.sha256(content).hexdigest()
        return cls(name=name, size=len(content), sha256=digest, source=content)


def decide(
    found: Asset | None, wanted: Content, *, named: bool
) -> Literal["keep", "upload", "replace"]:
    """What to do about an asset of that name; PublishError: nothing may be done. Pure.

    `named`: an entry names it. Such a one is never touched once it is whole. One that no entry
    names, or that never ended, is what a killed run left.
    """
    if found is None:
        return "upload"
    if not named or not found.whole:
        return "replace"
    if not found.holds(size=wanted.size, sha256=wanted.sha256):
        raise PublishError(
            f"{found.name}: the release holds {found.size} bytes, sha256 {found.sha256 or '?'}"
            f", the index names {wanted.size} bytes, {wanted.sha256}, and nothing is overwritten: "
            "delete that asset by hand, then publish again"
        )
    return "keep"


def put_asset(
    releases: Releases,
    release: Release,
    wanted: Content,
    *,
    named: bool,
    held: Mapping[str, Asset] | None = None,
) -> bool:
    """Upload unless it is there; returns whether it was uploaded. PublishError as `decide` says.

    `held`: what the release is known to hold. After an upload of which nobody knows how it ended,
    GitHub is asked again, and what is there is judged as any other.
    """
    for attempt in range(_ATTEMPTS):
        known = held if held is not None and not attempt else releases.assets(release)
        found = known.get(wanted.name)
        if attempt and found and found.sha256 and _is(found, wanted):
            return True
        choice = decide(found, wanted, named=named)
        if choice == "keep":
            return False
        if choice == "replace" and found:
            logger.info("%s: left by a run that was killed: uploaded again", found.name)
            releases.delete_asset(found)
        try:
            _check(releases, _upload(releases, release, wanted), wanted)
        except (Interrupted, Refused) as error:
            is_open = isinstance(error, Interrupted) or "already_exists" in error.codes
            if not is_open or attempt == _ATTEMPTS - 1:
                raise
            logger.warning("%s; looking what is there", error)
            continue
        return True
    raise AssertionError("the last attempt ends it")


def _is(found: Asset, wanted: Content) -> bool:
    return found.holds(size=wanted.size, sha256=wanted.sha256)


def _upload(releases: Releases, release: Release, wanted: Content) -> Asset:
    if isinstance(wanted.source, bytes):
        return releases.upload(release, wanted.name, wanted.source)
    with wanted.source.open("rb") as file:
        return releases.upload(release, wanted.name, file)


def _check(releases: Releases, made: Asset, wanted: Content) -> None:
    """GitHub renames what has odd characters; pip reads a wheel's name from its address."""
    if made.name != wanted.name:
        releases.delete_asset(made)
        raise PublishError(
            f"{wanted.name}: GitHub calls it {made.name}, from which no client could read what "
            "it is; it was taken away again"
        )
    if not _is(made, wanted):
        raise Interrupted(
            f"{wanted.name}: arrived as {made.size} bytes, sha256 {made.sha256 or 'unknown'}"
        )
