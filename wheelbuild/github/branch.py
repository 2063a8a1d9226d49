"""The branch that GitHub Pages serves: taken into a folder, and pushed back as one commit.

git never forces: where another run has pushed meanwhile, it refuses, and nothing is lost.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from wheelbuild.errors import UsageError
from wheelbuild.github.git import Git

if TYPE_CHECKING:
    from pathlib import Path

    from wheelbuild.github.repository import Repository

BRANCH = "gh-pages"


class PagesBranch:
    """One repository's branch, and the folder it is worked on in."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self.folder = folder
        self._git = Git(repository, folder, about=BRANCH)

    def fetch(self) -> bool:
        """Make the folder what the branch holds; False, and an empty one, where there is none.

        What a killed run left in the folder goes. UsageError for a folder that is not ours.
        """
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / ".git").is_dir():
                raise UsageError(f"{self.folder}: is not empty, and no checkout of the branch")
            shutil.rmtree(self.folder)
        there = self._git.commit_of(BRANCH) is not None
        if there:
            words = ["clone", "--quiet", "--depth", "1", "--single-branch", "--branch", BRANCH]
            self._git.run(*words, "--", self._git.url, str(self.folder))
        else:
            words = ["init", "--quiet", "--initial-branch", BRANCH]
            self._git.run(*words, "--", str(self.folder))
        # Else Jekyll would be run on the pages, and leave out what it does not know.
        (self.folder / ".nojekyll").touch()
        return there

    def push(self) -> bool:
        """Commit all of the folder and push it; False where the branch holds all of it already."""
        self._git.here("add", "--all")
        if self._git.here("status", "--porcelain"):
            self._git.here("commit", "--quiet", "--message", "Publish")
        if self._git.here("rev-parse", "HEAD") == self._git.commit_of(BRANCH):
            return False
        self._git.here("push", "--quiet", self._git.url, f"HEAD:refs/heads/{BRANCH}")
        return True
