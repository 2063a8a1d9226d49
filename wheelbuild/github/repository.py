"""Which repository, at which servers, as whom: read from the environment that a workflow has."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from wheelbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN = "GITHUB_TOKEN"  # noqa: S105 - the variable's name
SCHEME = "github:"
"""How a store says that it is a repository: `github:owner/name`."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """`owner/name` on one GitHub."""

    name: str
    api_url: str
    """Without a slash at the end: `https://api.github.com`."""
    server_url: str
    """Where people and git go: `https://github.com`."""
    token: str = field(repr=False)

    @classmethod
    def read(cls, name: str, *, environ: Mapping[str, str]) -> Repository:
        """UsageError for a name or an address that is none, or without a token."""
        if not re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+", name):
            raise UsageError(f"{name!r}: not a repository such as owner/name")
        if not environ.get(TOKEN):
            raise UsageError(f"{name}: set {TOKEN} to a token that may write to it")
        return cls(
            name=name,
            api_url=_address(environ.get("GITHUB_API_URL") or "https://api.github.com"),
            server_url=_address(environ.get("GITHUB_SERVER_URL") or "https://github.com"),
            token=environ[TOKEN],
        )

    @property
    def pages_url(self) -> str:
        """Where Pages serves it."""
        return pages_url(self.name)

    def asset_url(self, tag: str, asset: str) -> str:
        """Where a release's asset is downloaded. `+` becomes `%2B`, as GitHub writes it."""
        return f"{self.server_url}/{self.name}/releases/download/{tag}/{quote(asset, safe='')}"

    def redact(self, text: str) -> str:
        """`text` without the token, whoever wrote it there."""
        return text.replace(self.token, "***")


def find_repository(place: str | None, environ: Mapping[str, str]) -> Repository:
    """Of a store `github:owner/name`; UsageError for another one."""
    if not place or not place.startswith(SCHEME):
        raise UsageError(f"--store {SCHEME}owner/name says in which repository")
    return Repository.read(place.removeprefix(SCHEME), environ=environ)


def pages_url(name: str) -> str:
    """Where Pages serves the repository `owner/name`, unless it has a domain of its own."""
    owner, _, project = name.partition("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if project.lower() == host else f"https://{host}/{project}/"


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise UsageError(f"{url}: the token would go unencrypted: use https")
    return url.rstrip("/")
