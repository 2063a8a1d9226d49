"""One pull request for a change that may come again: opened, renewed, or left alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from wheelbuild.errors import PublishError
from wheelbuild.github.api import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelbuild.github.api import Api

_MARK = re.compile(r"<!-- change ([0-9a-f]{64}) -->")
_FORBIDDEN = 403


@dataclass(frozen=True, kw_only=True, slots=True)
class Pull:
    """A pull request from our branch, as GitHub lists it."""

    number: int
    url: str
    """For people."""
    state: str
    """`open`, `closed` (unmerged) or `merged`."""
    change: str
    """Digest of what it proposes; empty where its text says none."""

    @classmethod
    def of(cls, data: dict[str, Any]) -> Pull:
        found = _MARK.search(data.get("body") or "")
        state = "merged" if data.get("merged_at") else data["state"]
        change = found[1] if found else ""
        return cls(number=data["number"], url=data["html_url"], state=state, change=change)


@dataclass(frozen=True, kw_only=True, slots=True)
class PullText:
    """What it says."""

    title: str
    body: str
    change: str
    """Digest of what is proposed, the same as long as that is."""

    @property
    def marked(self) -> str:
        """The body, with the mark by which the change is known again."""
        return f"{self.body}\n\n<!-- change {self.change} -->\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What is to be done, and with which pull request."""

    what: Literal["open", "renew", "already", "rejected"]
    pull: Pull | None = None


def choose(pulls: Iterable[Pull], *, change: str) -> Choice:
    """One is open: it is renewed, or says it already. Closed with this very change: no. Pure."""
    known = tuple(pulls)
    for pull in known:
        if pull.state == "open":
            return Choice(what="already" if pull.change == change else "renew", pull=pull)
    for pull in known:
        if pull.state == "closed" and pull.change == change:
            return Choice(what="rejected", pull=pull)
    return Choice(what="open")


class Pulls:
    """The pull requests of one branch of ours."""

    def __init__(self, api: Api, *, branch: str) -> None:
        self.api, self.branch = api, branch

    def default_branch(self) -> str:
        """What they are merged into."""
        return str(self.api.ask("GET", "")["default_branch"])

    def list_all(self) -> tuple[Pull, ...]:
        """Open and closed, the newest first."""
        owner = self.api.repository.name.partition("/")[0]
        query = {"state": "all", "head": f"{owner}:{self.branch}"}
        return tuple(map(Pull.of, self.api.pages("/pulls", query)))

    def open(self, text: PullText, *, base: str) -> Pull:
        """Open one; PublishError names the setting where GitHub does not let a workflow do so."""
        body = {"title": text.title, "body": text.marked, "head": self.branch, "base": base}
        try:
            return Pull.of(self.api.ask("POST", "/pulls", body=body))
        except Refused as refusal:
            if refusal.status != _FORBIDDEN:
                raise
            raise PublishError(
                f"{refusal}: Settings, Actions, General, Workflow permissions: "
                "Allow GitHub Actions to create and approve pull requests"
            ) from refusal

    def renew(self, pull: Pull, text: PullText) -> None:
        """Say what it proposes now."""
        body = {"title": text.title, "body": text.marked}
        self.api.ask("PATCH", f"/pulls/{pull.number}", body=body)
