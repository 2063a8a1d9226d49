"""The source of a ref by git: one commit, without history; git checks that it is the hash's."""

from __future__ import annotations

import os
from typing import Sequence

from apex_installer.errors import CompileError
from apex_installer.make.capture import last_exception
from apex_installer.make.process import Child, wait_for


def fetch_commit(url: str, commit: str, *, into: str, ends_at: float) -> str:
    """Fetch `commit` into the new folder `into` and return it; CompileError says what git said.

    `ends_at` is a time of `time.monotonic`; DeadlineError after it.
    """
    os.makedirs(into)
    try:
        for words in (
            ("init", "--quiet"),
            ("fetch", "--quiet", "--depth=1", url, commit),
            ("checkout", "--quiet", "--detach", "FETCH_HEAD"),
        ):
            _git(words, folder=into, ends_at=ends_at)
    except (OSError, CompileError) as error:
        raise CompileError(
            f"{url} {commit[:12]}: {error}: name a checkout with --source DIR"
        ) from error
    return into


def _git(words: Sequence[str], *, folder: str, ends_at: float) -> None:
    said = f"{folder}.git-said"
    # Without a question for a password that nobody would answer.
    environ = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    child = Child(["git", *words], environ=environ, folder=folder, words=said)
    if wait_for(child, ends_at=ends_at, doing="the source was fetched"):
        with open(said, encoding="utf-8", errors="replace") as file:
            raise CompileError(f"git {words[0]}: {last_exception(file.read())}")
