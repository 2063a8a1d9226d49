"""Which build of a cell and version is the newest, and which build tag comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apex_installer.model.entry import Entry

FIRST = 1
"""What a wheel without a build tag counts as, so that the second build is `-2-`."""


def newest_build(entries: Iterable[Entry], *, cell: str, version: str) -> Entry | None:
    """Return the plain entry with the highest build tag of this cell and version, or None."""
    wanted = (cell, version, "")
    builds = [entry for entry in entries if (entry.cell, entry.version, entry.variant) == wanted]
    return max(builds, key=lambda entry: entry.build_tag, default=None)


def next_build_tag(newest: Entry | None) -> int:
    """Return the tag (PEP 427) of the build after `newest`; 0, no tag, for the first one."""
    return max(newest.build_tag, FIRST) + 1 if newest else 0
