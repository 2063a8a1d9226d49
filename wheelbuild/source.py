"""The source to build: the pinned commit, its hash checked, or a folder that is there."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from wheelbuild.command import run_command
from wheelbuild.errors import CommandError, SourceError
from wheelbuild.locks import locked

if TYPE_CHECKING:
    from wheelbuild.recipe import Recipe, Ref

logger = logging.getLogger(__name__)

_FETCH_LIMIT = 600.0
"""Seconds; a server that never answers is no reason to wait for ever."""
_LEFT_OUT = (".git", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.o")
"""What earlier builds leave in a checkout; setup.py would take some of it for sources."""


class Pinned(Protocol):
    """What is asked of a job, or of a ref alone."""

    @property
    def git_url(self) -> str: ...
    @property
    def ref(self) -> str:
        """Full commit hash."""

    @property
    def ref_name(self) -> str:
        """The tag, for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A folder with the ref's files, and how sure we are of that."""

    directory: Path
    how: Literal["pinned", "checkout", "folder"]
    """`pinned`: fetched, its hash checked; `checkout`: clean and of that commit; `folder`: no git
    says what it is."""


def find_source(
    job: Pinned, *, given: Path | None, cache: Path, submodules: bool = False
) -> Source:
    """Take the folder that was given, else what is in the cache, else fetch the pinned commit.

    `submodules`: whether a module's sources lie in one. SourceError for a checkout of another
    commit, and where the commit cannot be had.
    """
    if given is None:
        directory = cache / "sources" / job.ref
        with locked(directory):
            _fetch(job, directory)
            if submodules:
                _fetch_submodules(directory)
        return Source(directory=directory, how="pinned")
    if not (given / "setup.py").is_file():
        raise SourceError(f"--source {given}: holds no setup.py: name the checkout's own folder")
    head = read_head(given)
    if head is None:
        return Source(directory=given, how="folder")
    if head != job.ref:
        raise SourceError(
            f"--source {given}: is at {head[:12]}, this cell builds {job.ref[:12]} "
            f"({job.ref_name}): run git checkout {job.ref[:12]} there"
        )
    clean = not run_command(["git", "-C", given, "status", "--porcelain", "-uno"]).output.strip()
    if not clean:
        logger.warning("--source %s: has local changes; the build record says so", given)
    return Source(directory=given, how="checkout" if clean else "folder")


@dataclass(frozen=True, kw_only=True, slots=True)
class _PinnedRef:
    """A ref alone, as `find_source` asks of it."""

    git_url: str
    ref: str
    ref_name: str


def find_ref_source(recipe: Recipe, ref: Ref, *, given: Path | None, cache: Path) -> Source:
    """The same for a ref of no job; a recipe that has its own source beside it gives that."""
    pinned = _PinnedRef(git_url=recipe.git_url, ref=ref.commit, ref_name=ref.name)
    return find_source(pinned, given=given or recipe.source, cache=cache)


def read_head(directory: Path) -> str | None:
    """The commit that a checkout is at; None for a folder that is not the top of one."""
    try:
        words = ["git", "-C", str(directory), "rev-parse", "--show-toplevel", "HEAD"]
        top, head = run_command(words).output.split()
    except (CommandError, ValueError):
        return None
    return head if Path(top).resolve() == directory.resolve() else None


def _fetch(job: Pinned, directory: Path) -> None:
    """One commit, without history; git itself checks that the content is the hash's."""
    if read_head(directory) == job.ref:
        return
    part = directory.with_name(f"{directory.name}.part")
    for stale in (part, directory):
        shutil.rmtree(stale, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    logger.info("fetching %s %s (%s)", job.git_url, job.ref[:12], job.ref_name)
    try:
        run_command(["git", "init", "--quiet", part])
        _git(part, "fetch", "--quiet", "--depth=1", job.git_url, job.ref)
        _git(part, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    except CommandError as error:
        raise SourceError(
            f"{job.git_url} {job.ref[:12]}: {error}: name a checkout by --source DIR"
        ) from error
    head = read_head(part)
    if head != job.ref:
        raise SourceError(f"{job.git_url}: sent {head}, asked for was {job.ref}")
    part.replace(directory)


def _git(directory: Path, *words: str) -> None:
    """Without a question for a password that nobody would answer."""
    environ = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    run_command(["git", "-C", directory, *words], environ=environ, time_limit=_FETCH_LIMIT)


def _fetch_submodules(directory: Path) -> None:
    """The commits that the pinned one names, without history; what is there stays."""
    try:
        _git(directory, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    except CommandError as error:
        raise SourceError(f"{directory}: its submodules: {error}") from error


def copy_source(source: Source, *, into: Path) -> None:
    """Copy it unchanged, but for what earlier builds left there.

    Times are kept, so that a second build compiles only what changed.
    """
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(source.directory, into, symlinks=True, ignore=_left_out)


def _left_out(parent: str, names: list[str]) -> set[str]:
    ignored = shutil.ignore_patterns(*_LEFT_OUT)(parent, names)
    # `build` and `dist` are left by setup.py at the top only; deeper ones may be the source's own.
    top = (Path(parent) / "setup.py").is_file()
    return ignored if top else ignored - {"build", "dist"}
