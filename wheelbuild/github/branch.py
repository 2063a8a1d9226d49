"""The branch that GitHub Pages serves: taken into a folder, and pushed back as one commit.

git never forces: where another run has pushed meanwhile, it refuses, and nothing is lost. The token
goes to git as configuration in the environment, never as an argument or into a file.
"""

from __future__ import annotations

import os
import shutil
from base64 import b64encode
from typing import TYPE_CHECKING

from wheelbuild.command import Ran, run_command
from wheelbuild.errors import PublishError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from wheelbuild.github.repository import Repository

BRANCH = "gh-pages"
_ABSENT = 2
_LIMIT = 1800
_WHO = "wheelbuild"
_MAIL = "wheelbuild@users.noreply.github.com"


class PagesBranch:
    """One repository's branch, and the folder it is worked on in."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self.repository, self.folder = repository, folder

    def fetch(self) -> bool:
        """Make the folder what the branch holds; False, and an empty one, where there is none.

        What a killed run left in the folder goes. UsageError for a folder that is not ours.
        """
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / ".git").is_dir():
                raise UsageError(f"{self.folder}: is not empty, and no checkout of the branch")
            shutil.rmtree(self.folder)
        there = self._remote_commit() is not None
        if there:
            words = ["clone", "--quiet", "--depth", "1", "--single-branch", "--branch", BRANCH]
            self._git(*words, "--", self._url, str(self.folder))
        else:
            self._git("init", "--quiet", "--initial-branch", BRANCH, "--", str(self.folder))
        # Else Jekyll would be run on the pages, and leave out what it does not know.
        (self.folder / ".nojekyll").touch()
        return there

    def push(self) -> bool:
        """Commit all of the folder and push it; False where the branch holds all of it already."""
        self._here("add", "--all")
        if self._here("status", "--porcelain").output:
            self._here("commit", "--quiet", "--message", "Publish")
        commit = self._here("rev-parse", "HEAD").output.strip()
        if commit == self._remote_commit():
            return False
        self._here("push", "--quiet", self._url, f"HEAD:refs/heads/{BRANCH}")
        return True

    @property
    def _url(self) -> str:
        return f"{self.repository.server_url}/{self.repository.name}.git"

    def _remote_commit(self) -> str | None:
        words = ("ls-remote", "--exit-code", "--heads", "--", self._url, f"refs/heads/{BRANCH}")
        ran = self._git(*words, may_lack=True)
        return None if ran.code == _ABSENT else ran.output.split()[0]

    def _here(self, *words: str) -> Ran:
        return self._git("-C", str(self.folder), *words)

    def _git(self, *words: str, may_lack: bool = False) -> Ran:
        ran = run_command(["git", *words], environ=self._environ(), check=False, time_limit=_LIMIT)
        if ran.code and not (may_lack and ran.code == _ABSENT):
            verb = next(word for word in words if word not in {"-C", str(self.folder)})
            said = self.repository.redact(ran.last_line)
            raise PublishError(f"{self.repository.name}: git {verb} of {BRANCH}: {said}")
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
            environ[f"GIT_{role}_NAME"], environ[f"GIT_{role}_EMAIL"] = _WHO, _MAIL
        return environ
