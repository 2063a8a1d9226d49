"""One changed file as a commit on the newest default branch, pushed to a branch of its own.

The work tree is not touched. The branch is overwritten only where its last commit is ours and is
the one that was seen: what a person added to it stays.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelbuild.errors import UsageError
from wheelbuild.github.git import MAIL, Git

if TYPE_CHECKING:
    from wheelbuild.github.repository import Repository


class ChangeBranch:
    """A branch that holds one commit, whose parent is the default branch `base`."""

    def __init__(self, repository: Repository, file: Path, *, name: str, base: str) -> None:
        """`file` lies in a checkout of the repository; UsageError where that is not at `base`."""
        self.name, self.base = name, base
        self._git = Git(repository, file.resolve().parent, about=name)
        self._top = Path(self._git.here("rev-parse", "--show-toplevel"))
        self._path = file.resolve().relative_to(self._top).as_posix()
        self._parent = self._git.here("rev-parse", "HEAD")
        if self._parent != self._git.commit_of(base):
            raise UsageError(f"{self._top}: is not at the newest commit of {base}: git pull first")

    def push(self, content: str, *, message: str) -> bool:
        """Put the file's new content there; False where the branch's last commit is another's."""
        seen = self._git.commit_of(self.name)
        if seen is not None and not self._is_ours():
            return False
        commit = self._commit(content, message=message)
        lease = f"--force-with-lease=refs/heads/{self.name}:{seen or ''}"
        target = f"{commit}:refs/heads/{self.name}"
        self._git.here("push", "--quiet", lease, self._git.url, target)
        return True

    def _is_ours(self) -> bool:
        self._git.here("fetch", "--quiet", "--depth", "1", self._git.url, f"refs/heads/{self.name}")
        return self._git.here("log", "-1", "--format=%ce", "FETCH_HEAD") == MAIL

    def _commit(self, content: str, *, message: str) -> str:
        with tempfile.TemporaryDirectory(prefix="wheelbuild-change-") as scratch:
            changed = Path(scratch) / "file"
            changed.write_text(content, encoding="utf-8")
            blob = self._git.here("hash-object", "-w", "--no-filters", "--", str(changed))
            environ = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            self._git.here("read-tree", self._parent, environ=environ)
            entry = f"100644,{blob},{self._path}"
            self._git.here("update-index", "--cacheinfo", entry, environ=environ)
            tree = self._git.here("write-tree", environ=environ)
        return self._git.here("commit-tree", tree, "-p", self._parent, "-m", message)
