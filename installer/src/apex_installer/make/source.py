"""The source of a ref by git, or what was named in its place.

One commit, without history; git checks that it is the hash's.
"""

from __future__ import annotations

import hashlib
import os
from typing import Iterator, Sequence, Tuple

from apex_installer.errors import CompileError
from apex_installer.make.capture import last_exception
from apex_installer.make.process import Child, wait_for


def digest_source(path: str) -> str:
    """sha256 over an archive, or over every file of a checkout but git's own; 30 ms for Apex.

    CompileError where it holds no setup.py or cannot be read.
    """
    if not (os.path.isfile(path) or os.path.isfile(os.path.join(path, "setup.py"))):
        raise CompileError(f"{path}: no setup.py there; give the folder of a checkout")
    digest = hashlib.sha256()
    try:
        for name, file in _files(path):
            with open(file, "rb") as stream:
                content = hashlib.sha256(stream.read()).hexdigest()
            digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise CompileError(f"--source {path}: {error.strerror}") from error
    return digest.hexdigest()


def _files(path: str) -> Iterator[Tuple[str, str]]:
    if not os.path.isdir(path):
        yield "", path
        return
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            file = os.path.join(parent, name)
            if os.path.isfile(file):
                yield os.path.relpath(file, path), file


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
