"""The commands that a workflow's jobs run, one each; at home they do the same."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

from wheelbuild.commands import build_options
from wheelbuild.data import load_data
from wheelbuild.errors import EXIT_BUG, EXIT_DONE, EXIT_STEP, PublishError, UsageError
from wheelbuild.github.api import Api, Refused
from wheelbuild.github.branch import PagesBranch
from wheelbuild.github.installer import release_installer
from wheelbuild.github.releases import Releases
from wheelbuild.github.repository import find_repository
from wheelbuild.github.wanted import read_wanted
from wheelbuild.made import Made, cut_off, make_cell, prove_on_gpu, publish_made, read_made
from wheelbuild.plan import make_plan
from wheelbuild.planning_commands import note_failures, plan_jobs, write_coverage
from wheelbuild.run import RunOptions
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.stores.place import open_store
from wheelbuild.summary import first_error, summarize_plan, summarize_results
from wheelbuild.tables import print_line, print_table
from wheelbuild.workflow_files import append_output, append_summary

if TYPE_CHECKING:
    import argparse

    from wheelbuild.github.repository import Repository
    from wheelbuild.plan import Plan

logger = logging.getLogger(__name__)

MOST_JOBS = 256
"""Of one matrix, by GitHub's limit."""
_NOT_FOUND = 404


def run_jobs(arguments: argparse.Namespace) -> int:
    """Say which cells a workflow's matrix shall make: JSON, and in $GITHUB_OUTPUT as `cells`."""
    arguments.only = arguments.arch = None  # whole cells alone
    words = arguments.cells.replace(",", " ").split()
    asked = _read_wanted(arguments) if arguments.wanted else ()
    plan = plan_jobs(load_data(arguments.data), arguments, cells=words, asked=asked)
    cells = [job.cell.label for job in plan.jobs]
    taken = cells[:MOST_JOBS]
    text = json.dumps(taken)
    append_output("cells", text)
    summary = summarize_plan(
        taken,
        fresh=len(plan.fresh),
        left=len(cells) - len(taken),
        known=[failure.line for _, failure in plan.known],
    )
    append_summary(summary)
    print_line(text)
    return EXIT_DONE


def run_make(arguments: argparse.Namespace) -> int:
    """Build, repair, stamp and test one cell into a folder that `gather` publishes from."""
    plan = _plan(arguments, cells=[arguments.cell])
    jobs = [job for job in (*plan.jobs, *plan.fresh) if job.cell.label == arguments.cell]
    if not jobs:
        raise UsageError(f"{arguments.cell}: not the whole label of one cell")
    store = DirectoryStore(arguments.index)
    options = RunOptions(build=build_options(arguments), store=store)
    made = make_cell(jobs[0], data=load_data(arguments.data), options=options, out=arguments.out)
    _show(arguments, [made])
    return _exit_code([made])


def run_prove(arguments: argparse.Namespace) -> int:
    """Test what `make` left, each module on this machine's GPU; the evidence stays beside it."""
    data, proved = load_data(arguments.data), []
    for made in _read(arguments):
        if made.state != "made":
            continue
        (job,) = _plan(arguments, cells=[made.cell], force=True).jobs
        cache = arguments.cache.absolute()
        proved.append(prove_on_gpu(made, job, data=data, out=arguments.out, cache=cache))
    _show(arguments, proved)
    return _exit_code(proved)


def run_gather(arguments: argparse.Namespace) -> int:
    """Publish what `make` left here or elsewhere; says of each cell that failed its first error."""
    repository = find_repository(arguments.store, os.environ)
    store = open_store(arguments.index, arguments.store, environ=os.environ)
    results = _read(arguments)
    known = {made.cell for made in results}
    missing = [cut_off(cell) for cell in _expected(arguments) if cell not in known]
    ended = publish_made(results, out=arguments.out, store=store, force=arguments.force)
    noted = note_failures(arguments.index, [made.ending for made in ended])
    write_coverage(load_data(arguments.data), store=store)
    _show(arguments, [*ended, *missing])
    summary = summarize_results(
        [*ended, *missing],
        pages_url=_pages_url(arguments, repository),
        noted={one.cell for one in noted},
    )
    append_summary(summary)
    return _exit_code([*ended, *missing])


def run_pages(arguments: argparse.Namespace) -> int:
    """Fetch the branch that GitHub Pages serves into the index's folder, or push it back."""
    repository = find_repository(arguments.store, os.environ)
    branch = PagesBranch(repository, arguments.index.absolute())
    if arguments.direction == "fetch":
        print_line("fetched" if branch.fetch() else "new")
        return EXIT_DONE
    pushed = branch.push()
    if pushed:
        _ask_for_pages(repository)
    print_line("pushed" if pushed else "already")
    return EXIT_DONE


def run_release_installer(arguments: argparse.Namespace) -> int:
    """Release apex-install.pyz, as `zipapp` packed it, and its sha256 in the repository."""
    releases = Releases(Api(find_repository(arguments.store, os.environ)))
    released = release_installer(arguments.zipapp, releases=releases)
    print_line("released" if released else "already")
    return EXIT_DONE


def _read_wanted(arguments: argparse.Namespace) -> tuple[str, ...]:
    """None where GitHub does not tell: the order is all that depends on it."""
    repository = find_repository(arguments.store, os.environ)
    try:
        return read_wanted(Api(repository))
    except PublishError as error:
        logger.warning("the issues that ask for wheels are not read, the order is ours: %s", error)
        return ()


def _plan(arguments: argparse.Namespace, *, cells: list[str], force: bool = False) -> Plan:
    return make_plan(
        load_data(arguments.data),
        DirectoryStore(arguments.index).entries(),
        cells=cells,
        force=force or arguments.force,
    )


def _read(arguments: argparse.Namespace) -> tuple[Made, ...]:
    return read_made(arguments.out)


def _expected(arguments: argparse.Namespace) -> list[str]:
    try:
        return [str(cell) for cell in json.loads(arguments.expect or "[]")]
    except ValueError as error:
        raise UsageError(f"--expect: not a list of cells as JSON: {error}") from error


def _pages_url(arguments: argparse.Namespace, repository: Repository) -> str:
    return str(arguments.index_url or repository.pages_url)


def _ask_for_pages(repository: Repository) -> None:
    """What the workflow's own token pushes is not built by itself."""
    try:
        Api(repository).ask("POST", "/pages/builds")
    except Refused as refusal:
        if refusal.status != _NOT_FOUND:
            raise
        logger.warning(
            "%s: Pages is off: Settings, Pages, deploy from the branch gh-pages, folder /",
            repository.name,
        )


def _show(arguments: argparse.Namespace, results: list[Made]) -> None:
    rows = [
        {
            "cell": made.cell,
            "state": made.state,
            "step": made.step,
            "seconds": made.seconds,
            "said": first_error(made.said),
        }
        for made in results
    ]
    columns = ("cell", "state", "step", "seconds", "said")
    print_table(rows, columns=columns, as_json=arguments.json)


def _exit_code(results: list[Made]) -> int:
    states = {made.state for made in results}
    if "bug" in states:
        return EXIT_BUG
    return EXIT_STEP if "failed" in states else EXIT_DONE
