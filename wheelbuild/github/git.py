"""git as the repository's token: it goes in as configuration in the environment, never elsewhere.

Not as an argument, which every process of the machine could read, and not into a file, which an
artifact could carry away.
"""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING

from wheelbuild.command import Ran, run_command
from wheelbuild.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wheelbuild.github.repository import Repository

MAIL = "wheelbuild@users.noreply.github.com"
_WHO = "wheelbuild"
_ABSENT = 2
_LIMIT = 1800


class Git:
    """git in one folder, for one repository; `about` is the branch that errors name."""

    def __init__(self, repository: Repository, folder: Path, *, about: str) -> None:
        self.repository, self.folder, self.about = repository, folder, about

    @property
    def url(self) -> str:
        """Where it is pushed to and fetched from."""
        return f"{self.repository.server_url}/{self.repository.name}.git"

    def here(self, *words: str, environ: Mapping[str, str] | None = None) -> str:
        """Run a command in the folder; its output. PublishError says what git said last."""
        return self.run("-C", str(self.folder), *words, environ=environ).output.strip()

    def commit_of(self, branch: str) -> str | None:
        """The commit that the remote branch is at, or None where there is no such branch."""
        words = ("ls-remote", "--exit-code", "--heads", "--", self.url, f"refs/heads/{branch}")
        ran = self.run(*words, may_lack=True)
        return None if ran.code == _ABSENT else ran.output.split()[0]

    def run(
        self, *words: str, may_lack: bool = False, environ: Mapping[str, str] | None = None
    ) -> Ran:
        """Run a command anywhere; with `may_lack`, what is not there is no error."""
        variables = {**self._environ(), **(environ or {})}
        ran = run_command(["git", *words], environ=variables, check=False, time_limit=_LIMIT)
        if ran.code and not (may_lack and ran.code == _ABSENT):
            verb = next(word for word in words if word not in {"-C", str(self.folder)})
            said = self.repository.redact(ran.last_line)
            raise PublishError(f"{self.repository.name}: git {verb} of {self.about}: {said}")
        return ran

    def _environ(self) -> dict[str, str]:
        secret = b64encode(f"x-access-token:{self.repository.token}".encode()).decode()
        config = {
            f"http.{self.repository.server_url}/.extraheader": f"Authorization: Basic {secret}",
            "credential.helper": "",
            "commit.gpgsign": "false",
        }
        environ = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_COUNT": str(len(config))}
        environ.pop("GIT_TRACE_CURL", None)
        for number, (key, value) in enumerate(config.items()):
            environ[f"GIT_CONFIG_KEY_{number}"], environ[f"GIT_CONFIG_VALUE_{number}"] = key, value
        for role in ("AUTHOR", "COMMITTER"):
            environ[f"GIT_{role}_NAME"], environ[f"GIT_{role}_EMAIL"] = _WHO, MAIL
        return environ
