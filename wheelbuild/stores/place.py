"""Which store a command line means: a folder, or a folder with its wheels in GitHub Releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelbuild.errors import UsageError
from wheelbuild.github.repository import SCHEME, Repository
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wheelbuild.stores.store import Store


def open_store(folder: Path, place: str | None, *, environ: Mapping[str, str]) -> Store:
    """`place`: None, or `github:owner/name`; the token is the environment's. UsageError."""
    if not place:
        return DirectoryStore(folder)
    if not place.startswith(SCHEME):
        raise UsageError(f"{place!r}: not a store; there is {SCHEME}owner/name")
    from wheelbuild.github.api import Api  # noqa: PLC0415 - `requests` is half a start
    from wheelbuild.github.releases import Releases  # noqa: PLC0415
    from wheelbuild.stores.releases import ReleasesStore  # noqa: PLC0415

    repository = Repository.read(place.removeprefix(SCHEME), environ=environ)
    return ReleasesStore(folder, releases=Releases(Api(repository)))
