"""Publish: one tested wheel into an index; and what else changes one: yank and render again."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from wheelbuild.errors import PublishError, UsageError
from wheelbuild.index.admission import check_wheel
from wheelbuild.index.builds import newest_build, next_build_tag
from wheelbuild.index.trust import check_trust
from wheelbuild.index.writing import write_index
from wheelbuild.variants import find_mismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from apex_installer.model.entry import Entry
    from wheelbuild.stores.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """How it ended."""

    state: Literal["published", "already"]
    entry: Entry
    """What the index holds now: this wheel's entry, or the one that made it needless."""
    pages: tuple[str, ...]
    """Pages that changed."""


def publish(
    wheel: Path, entry: Entry, *, store: Store, force: bool = False, now: datetime | None = None
) -> Published:
    """Add the wheel to the index, unless the newest build of its cell and version has its key.

    Repeatable, and right after a run that was killed anywhere: the pages are rendered either way.
    `force` publishes a build of the same key again, under the next build tag. `now`: upload time.
    PublishError for a wheel that is not what it says or that an untrusted compiler cache had a hand
    in, and for a name or build tag that is taken.
    """
    metadata = check_wheel(wheel, entry)
    check_trust(wheel)
    with store.locked():
        held = store.entries()
        standing = find_standing(entry, held, force=force)
        if standing is None:
            url = store.put_file(wheel, sha256=entry.sha256, sidecar=metadata)
            uploaded = _timestamp(now or datetime.now(UTC))
            store.put_entry(kept := replace(entry, url=url, uploaded=uploaded))
        elif standing.sha256 == entry.sha256:
            # Kept already: looked over, put right if it is damaged, and better evidence taken.
            store.put_file(wheel, sha256=entry.sha256, sidecar=metadata)
            store.put_entry(kept := _with_evidence(standing, entry.tests))
        else:
            kept = standing
        pages = write_index(_with(kept, held), store=store)
    state: Literal["published", "already"] = "already" if standing else "published"
    logger.info("%s: %s", kept.file, state)
    return Published(state=state, entry=kept, pages=pages)


def find_standing(entry: Entry, held: Iterable[Entry], *, force: bool) -> Entry | None:
    """Return the entry that makes publishing this one needless, or None; PublishError: it must not.

    Pure: the whole rule of what may follow what.
    """
    known = tuple(held)
    for other in known:
        if other.sha256 == entry.sha256:
            return other
    newest = newest_build(known, cell=entry.cell, version=entry.version)
    if entry.variant:
        return _find_standing_variant(entry, known, newest)
    if newest and newest.key == entry.key and not force:
        return newest
    if any(other.file == entry.file for other in known):
        raise PublishError(
            f"{entry.file}: the index holds other bytes under this name, and none is ever "
            f"overwritten: build with build tag {next_build_tag(newest)}"
        )
    if entry.build_tag != next_build_tag(newest):
        raise PublishError(
            f"{entry.file}: build tag {entry.build_tag or 'none'}, the next one of this cell and "
            f"version is {next_build_tag(newest) or 'none'}: plan and build against this index"
        )
    return None


def _find_standing_variant(
    entry: Entry, known: tuple[Entry, ...], plain: Entry | None
) -> Entry | None:
    """Beside the plain wheel of the same build, never without one and never instead of it."""
    mismatch = find_mismatch(entry, plain)
    if mismatch:
        raise PublishError(f"{entry.file}: {mismatch}")
    for other in known:
        if other.file == entry.file and other.key != entry.key:
            raise PublishError(f"{entry.file}: the index holds another build under this name")
        if other.file == entry.file:
            return other
    return None


def reindex(*, store: Store) -> tuple[str, ...]:
    """Render all pages from the entries; return those that changed."""
    with store.locked():
        return write_index(store.entries(), store=store)


def yank(file: str, *, reason: str | None, store: Store) -> Published:
    """Yank a wheel (PEP 592) with a reason, or with None take that back.

    pip and apex-install pass over it; uv meets an exact pin with it and warns, so that only a
    newer build takes a bad one from everybody. UsageError, with near names: no such file here.
    """
    with store.locked():
        held = {entry.file: entry for entry in store.entries()}
        if file not in held:
            near = difflib.get_close_matches(file, held, n=3)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise UsageError(f"{file}: not in this index{hint}")
        state: Literal["published", "already"] = "already"
        entry = replace(held[file], yanked=reason)
        if entry != held[file]:
            state = "published"
            store.put_entry(entry)
        pages = write_index(_with(entry, held.values()), store=store)
        return Published(state=state, entry=entry, pages=pages)


def _with(entry: Entry, held: Iterable[Entry]) -> tuple[Entry, ...]:
    """What the store holds once `entry` is put; to read it all again would take as long again."""
    return (*(other for other in held if other.sha256 != entry.sha256), entry)


def _with_evidence(standing: Entry, tests: Mapping[str, Any]) -> Entry:
    """A wheel published untested and tested later: the same bytes, more evidence, never less."""
    if tests.get("gpu", "untested") != "untested":
        return replace(standing, tests=tests)
    return standing


def _timestamp(moment: datetime) -> str:
    """PEP 700's form."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
