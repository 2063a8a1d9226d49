"""The command `discover`: what upstream has, as a change to the matrix, and as a pull request."""

from __future__ import annotations

import hashlib
import logging
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wheelbuild.data import load_data
from wheelbuild.discover import FILE, Proposal, propose
from wheelbuild.errors import EXIT_DONE
from wheelbuild.github.api import Api
from wheelbuild.github.change import ChangeBranch
from wheelbuild.github.pulls import Choice, Pulls, PullText, choose
from wheelbuild.github.repository import find_repository
from wheelbuild.known_failures import write_whole
from wheelbuild.summary import as_text
from wheelbuild.tables import print_json, print_line
from wheelbuild.upstream import read_upstream
from wheelbuild.web import Web
from wheelbuild.workflow_files import append_summary

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from wheelbuild.data import FarmData
    from wheelbuild.github.repository import Repository
    from wheelbuild.upstream import Upstream

logger = logging.getLogger(__name__)

BRANCH = "wheelbuild/discover"
_MOST = 200
"""Lines of a list in a pull request, which GitHub bounds at 65,536 characters."""
_BODY = """\
Builds of torch that the matrix does not know, found on PyPI and on PyTorch's own index. \
Merged, the next run of `build` makes these cells. Architectures and C++ ABI of a new build \
are those of the nearest one: look them over.

{cells}
{notes}
To refuse: close this. The same change is not proposed again; a row in `[[exclusions]]` keeps \
a torch, CUDA or Python out of every later one. GitHub starts no workflow for a pull request \
of a workflow's own token: close and reopen it to run `ci`."""


def run_discover(arguments: argparse.Namespace) -> int:
    """Find builds of torch that the matrix does not know; prints the change to matrix.toml."""
    data = load_data(arguments.data)
    repository = find_repository(arguments.store, os.environ) if arguments.propose else None
    path = data.directory / FILE
    text, today = path.read_text(encoding="utf-8"), f"{datetime.now(UTC):%Y-%m-%d}"
    found = _read_upstream(arguments, data)
    proposal = propose(text, data, found.builds, today=today)
    for build in found.builds:
        logger.info("torch %s: %s (%s)", build.text, " ".join(build.pythons), build.index)
    notes = [*found.notes, *proposal.notes]
    for note in notes:
        logger.info("%s", note)
    logger.info("%d cells proposed", len(proposal.cells))
    if arguments.write and proposal.diff:
        write_whole(path, proposal.after)
    if arguments.json:
        builds = [
            {"torch": one.text, "pythons": list(one.pythons), "index": one.index}
            for one in found.builds
        ]
        print_json({"found": builds, "cells": list(proposal.cells), "notes": notes})
    elif proposal.diff:
        print_line(proposal.diff.rstrip("\n"))
    if repository:
        # The day of the search is no part of the change: else each week's would be another.
        change = digest_of(propose(text, data, found.builds, today="").diff)
        said = _propose(proposal, notes, path=path, repository=repository, change=change)
        logger.info("%s", said)
        append_summary(f"## Discover\n\n{said}\n")
    return EXIT_DONE


def digest_of(diff: str) -> str:
    """sha256 over the lines that a diff adds or removes, wherever they are. Pure."""
    lines = [line for line in diff.splitlines() if line.startswith(("+", "-"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def pull_text(proposal: Proposal, notes: Sequence[str], *, change: str) -> PullText:
    """What the pull request says: each cell, and what is not proposed and why. Pure."""
    torches = sorted({_torch_of(cell) for cell in proposal.cells}, key=_numbers)
    title = f"Matrix: torch {', '.join(torches)}" if torches else "Matrix: new builds of torch"
    cells = _list("Cells:", [f"`{cell}`" for cell in proposal.cells])
    left = _list("Not proposed:", [as_text(note) for note in notes])
    return PullText(title=title, body=_BODY.format(cells=cells, notes=left), change=change)


def _read_upstream(arguments: argparse.Namespace, data: FarmData) -> Upstream:
    return read_upstream(
        web=Web(),
        pypi=arguments.pypi_url,
        pytorch=arguments.pytorch_url,
        cudas={*data.toolkits.toolkits, *(row.cell.cuda for row in data.matrix.rows)},
        least=arguments.since,
        platform=data.matrix.platform,
    )


def _propose(
    proposal: Proposal, notes: Sequence[str], *, path: Path, repository: Repository, change: str
) -> str:
    """Open or renew the one pull request; what was done, for people."""
    if not proposal.diff:
        return "Nothing to propose: the matrix knows every build of torch that can be built."
    pulls = Pulls(Api(repository), branch=BRANCH)
    choice = choose(pulls.list_all(), change=change)
    text = pull_text(proposal, notes, change=change)
    if choice.what in {"open", "renew"}:
        base = pulls.default_branch()
        branch = ChangeBranch(repository, path, name=BRANCH, base=base)
        if not branch.push(proposal.after, message=text.title):
            return f"Left alone: {BRANCH} holds somebody's own commits; merge or delete it."
        if choice.pull is None:
            choice = Choice(what="open", pull=pulls.open(text, base=base))
        else:
            pulls.renew(choice.pull, text)
    url = choice.pull.url if choice.pull else ""
    return {
        "open": f"Opened: {url}",
        "renew": f"Renewed: {url}",
        "already": f"Open already, with this very change: {url}",
        "rejected": f"Not proposed again: this very change was closed unmerged: {url}",
    }[choice.what]


def _list(head: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = [f"- and {len(items) - _MOST} more"] if len(items) > _MOST else []
    return "\n".join([head, "", *(f"- {item}" for item in items[:_MOST]), *more, ""])


def _torch_of(cell: str) -> str:
    """`2.12`."""
    return cell.split("-")[1].removeprefix("torch")


def _numbers(torch: str) -> list[int]:
    return [int(part) for part in torch.split(".")]
