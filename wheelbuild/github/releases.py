"""Releases and their assets: the few calls that the farm makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wheelbuild.github.api import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from wheelbuild.github.api import Api

_NOT_FOUND = 404
_EXISTS = "already_exists"


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A tag that holds assets."""

    number: int
    tag: str
    draft: bool
    upload_url: str
    """On a host of its own, without the template at its end."""

    @classmethod
    def of(cls, data: dict[str, Any]) -> Release:
        return cls(
            number=data["id"],
            tag=data["tag_name"],
            draft=data["draft"],
            upload_url=data["upload_url"].partition("{")[0],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """A file of a release, as GitHub lists it."""

    number: int
    name: str
    """As GitHub calls it, which need not be as it was sent."""
    size: int
    sha256: str | None
    """None where GitHub has not said."""
    whole: bool
    """False: an upload that was begun and never ended (state `starter`)."""

    @classmethod
    def of(cls, data: dict[str, Any]) -> Asset:
        kind, _, digest = (data.get("digest") or "").partition(":")
        return cls(
            number=data["id"],
            name=data["name"],
            size=data["size"],
            sha256=digest if kind == "sha256" else None,
            whole=data["state"] == "uploaded",
        )

    def holds(self, *, size: int, sha256: str) -> bool:
        """Whether it is this file, by all that GitHub says of it."""
        return self.whole and self.size == size and self.sha256 in (None, sha256)


class Releases:
    """All that changes nothing may be called again; so may the rest, see each."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def find(self, tag: str) -> Release | None:
        """Return the published release of a tag, or None."""
        try:
            return Release.of(self.api.ask("GET", f"/releases/tags/{tag}"))
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return None
            raise

    def drafts(self, tag: str) -> Iterator[Release]:
        """Releases of this tag that nobody sees yet: what a killed run left."""
        found = map(Release.of, self.api.pages("/releases"))
        return (release for release in found if release.draft and release.tag == tag)

    def find_or_create(self, tag: str, *, title: str, text: str) -> Release:
        """The published release of a tag, made where there is none; never the latest one."""
        found = self.find(tag)
        if found is not None:
            return found
        try:
            return self._create(tag, title=title, text=text, draft=False)
        except Refused as refusal:
            found = self.find(tag) if _EXISTS in refusal.codes else None
            if found is None:
                raise
            return found

    def create_draft(self, tag: str, *, title: str, text: str) -> Release:
        """A release that nobody sees before it is published."""
        return self._create(tag, title=title, text=text, draft=True)

    def publish(self, release: Release) -> None:
        """Show a draft to everybody, as the repository's latest release."""
        body = {"draft": False, "make_latest": "true"}
        self.api.ask("PATCH", f"/releases/{release.number}", body=body)

    def delete(self, release: Release) -> None:
        """Take a draft away, and its assets with it."""
        self._delete(f"/releases/{release.number}")

    def assets(self, release: Release) -> dict[str, Asset]:
        """Name -> asset, also those that never ended."""
        listed = map(Asset.of, self.api.pages(f"/releases/{release.number}/assets"))
        return {asset.name: asset for asset in listed}

    def upload(self, release: Release, name: str, content: bytes | IO[bytes]) -> Asset:
        """Refused with `already_exists`: the name is taken; Interrupted: look what is there."""
        return Asset.of(self.api.upload(release.upload_url, name, content))

    def delete_asset(self, asset: Asset) -> None:
        """Take an asset away; one that is gone is gone."""
        self._delete(f"/releases/assets/{asset.number}")

    def _create(self, tag: str, *, title: str, text: str, draft: bool) -> Release:
        body = {"tag_name": tag, "name": title, "body": text, "draft": draft}
        return Release.of(self.api.ask("POST", "/releases", body={**body, "make_latest": "false"}))

    def _delete(self, path: str) -> None:
        try:
            self.api.ask("DELETE", path)
        except Refused as refusal:
            if refusal.status != _NOT_FOUND:
                raise
