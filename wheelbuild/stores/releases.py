"""An index whose wheels are assets of GitHub Releases; all else lies in the folder of its pages.

Wheel and sidecar are uploaded before anything names them, and the folder is pushed after that as
one commit, so no reader meets a page whose file is missing. One writer at a time is the workflow's
concurrency group; where two write all the same, git refuses the second push.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from wheelbuild.errors import PublishError
from wheelbuild.github.assets import Content, put_asset
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from apex_installer.model.entry import Entry
    from wheelbuild.github.releases import Asset, Release, Releases
    from wheelbuild.github.repository import Repository

logger = logging.getLogger(__name__)

CAPACITY = 1000
"""Assets that GitHub lets a release hold."""
_PREFIX = "wheels-"
_TEXT = """\
Wheels of this farm's index, by number. The index's pages say which one is for whom; take them
through pip, uv or apex-install, not from here.
"""


class ReleasesStore:
    """Implements `wheelbuild.stores.store.Store`: releases `wheels-1`, `wheels-2`, …, and a folder.

    Sources and build requirements stay in the folder: they are small, and found by their path.
    """

    def __init__(self, directory: Path, *, releases: Releases, capacity: int = CAPACITY) -> None:
        self._folder = DirectoryStore(directory)
        self._releases = releases
        self._capacity = capacity

    @property
    def directory(self) -> Path:
        """What becomes the pages."""
        return self._folder.directory

    @property
    def _repository(self) -> Repository:
        return self._releases.api.repository

    def locked(self) -> AbstractContextManager[None]:
        """On this machine; see above for others."""
        return self._folder.locked()

    def entries(self) -> tuple[Entry, ...]:
        """Those of the folder; the URLs of wheels are absolute."""
        return self._folder.entries()

    def put_file(self, file: Path, *, sha256: str, sidecar: bytes | None = None) -> str:
        """A wheel, which has a sidecar, becomes two assets of one release, the sidecar first."""
        if sidecar is None:
            return self._folder.put_file(file, sha256=sha256)
        wheel = Content.of_file(file)
        if wheel.sha256 != sha256:
            raise PublishError(
                f"{file}: changed while it was published: its sha256 is not {sha256}"
            )
        metadata = Content.of_bytes(f"{file.name}.metadata", sidecar)
        shards = self._named_files()
        tag = next((tag for tag, names in shards.items() if names.get(file.name) == sha256), None)
        named = tag is not None
        release, held = self._release(tag) if tag else self._release_with_room(shards, file.name)
        for content in (metadata, wheel):
            if put_asset(self._releases, release, content, named=named, held=held):
                logger.info("%s: uploaded to %s", content.name, release.tag)
        return self._repository.asset_url(release.tag, file.name)

    def put_entry(self, entry: Entry) -> None:
        """Into the folder; its file is there by then."""
        self._folder.put_entry(entry)

    def write_pages(self, pages: Mapping[str, bytes]) -> tuple[str, ...]:
        """Into the folder; they are seen once it is pushed."""
        return self._folder.write_pages(pages)

    def read_page(self, name: str) -> bytes | None:
        """From the folder."""
        return self._folder.read_page(name)

    def _named_files(self) -> dict[str, dict[str, str]]:
        """Tag -> wheel -> sha256, of all that entries name here."""
        named: dict[str, dict[str, str]] = {}
        for entry in self.entries():
            tag = self._tag_of(entry)
            if tag is not None:
                named.setdefault(tag, {})[entry.file] = entry.sha256
        return named

    def _tag_of(self, entry: Entry) -> str | None:
        """None for a wheel that lies elsewhere."""
        found = re.search(rf"/({_PREFIX}\d+)/[^/]+$", entry.url)
        is_ours = found and entry.url == self._repository.asset_url(found[1], entry.file)
        return found[1] if found and is_ours else None

    def _release(self, tag: str) -> tuple[Release, dict[str, Asset]]:
        title = f"Wheels {tag.removeprefix(_PREFIX)}"
        release = self._releases.find_or_create(tag, title=title, text=_TEXT)
        return release, self._releases.assets(release)

    def _release_with_room(
        self, shards: Mapping[str, Mapping[str, str]], file: str
    ) -> tuple[Release, dict[str, Asset]]:
        """The last one that is in use, or the next; what is left of this file does not count."""
        for tag in _tags_from(shards):
            release, held = self._release(tag)
            if file in shards.get(tag, ()):
                raise PublishError(f"{file}: {tag} holds other bytes under this name")
            others = [name for name in held if name not in {file, f"{file}.metadata"}]
            if len(others) + 2 <= self._capacity:
                return release, held
        raise AssertionError("there is always a next release")


def _tags_from(shards: Mapping[str, object]) -> Iterator[str]:
    numbers = [int(tag.removeprefix(_PREFIX)) for tag in shards]
    number = max(numbers, default=1)
    while True:
        yield f"{_PREFIX}{number}"
        number += 1
