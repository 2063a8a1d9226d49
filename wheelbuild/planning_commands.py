"""The commands around the plan: what to build, what is covered, what upstream has, evidence."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelbuild.coverage import cover, coverage_page, coverage_text
from wheelbuild.data import load_data
from wheelbuild.errors import EXIT_DONE, UsageError
from wheelbuild.estimate import ASSUMED, NOTHING, Estimate, estimate_jobs, estimate_text
from wheelbuild.evidence import add_evidence
from wheelbuild.index.overview import gpu_evidence
from wheelbuild.index.paths import COVERAGE
from wheelbuild.index.writing import write_index
from wheelbuild.known_failures import (
    Ending,
    KnownFailure,
    find_failure,
    note_results,
    read_failures,
    write_failures,
)
from wheelbuild.live_index import read_entries, read_known
from wheelbuild.misses import count_misses
from wheelbuild.order import group_jobs, order_jobs
from wheelbuild.plan import choose_rows, make_plan
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.tables import print_json, print_line, print_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from wheelbuild.data import FarmData
    from wheelbuild.plan import Job, Plan
    from wheelbuild.stores.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The plan in the order of building, and what it leaves out."""

    jobs: tuple[Job, ...]
    fresh: tuple[Job, ...]
    known: tuple[tuple[Job, KnownFailure], ...]
    """Jobs that failed with the inputs that they have now."""
    misses: dict[str, int]


def run_plan(arguments: argparse.Namespace) -> int:
    """List the jobs: wanted cells that the index does not hold, or not fresh.

    What is missed most comes first, then the newest torch. With --json: one line, the matrix of a
    workflow, a job of it for each torch and CUDA.
    """
    data = load_data(arguments.data)
    planned = plan_jobs(data, arguments, cells=arguments.cells)
    cores = arguments.cores or os.cpu_count() or 1
    each = estimate_jobs(planned.jobs, toolkits=data.toolkits, cores=cores)
    rows = [_job_row(job, one, planned.misses) for job, one in zip(planned.jobs, each, strict=True)]
    logger.info(
        "%d to build, %d in the index and fresh, %d known not to build",
        *map(len, (planned.jobs, planned.fresh, planned.known)),
    )
    if arguments.estimate:
        total = sum(each, NOTHING)
        logger.info("%s", estimate_text(total, jobs=len(each), cores=cores))
        logger.info("%s", ASSUMED)
    if arguments.json:
        by_cell = {row["cell"]: row for row in rows}
        print_line(json.dumps({"include": _groups(planned.jobs, by_cell)}))
        return EXIT_DONE
    columns = ["cell", "version", "build", "ref", "modules", "architectures"]
    columns += ["missed"] if planned.misses else []
    columns += ["minutes", "download_gb", "disk_gb"] if arguments.estimate else []
    print_table(rows, columns=columns, as_json=False)
    return EXIT_DONE


def run_coverage(arguments: argparse.Namespace) -> int:
    """Show each wanted cell: published, tested on which GPU, failing and why, or missing."""
    data = load_data(arguments.data)
    if arguments.write and "://" in arguments.index:
        raise UsageError(f"--write {arguments.index}: only a folder can be written; use --out FILE")
    entries = read_entries(arguments.index, [row.cell for row in data.matrix.rows])
    cells = cover(data, entries, _known(data, arguments.index))
    if arguments.write:
        write_coverage(data, store=DirectoryStore(Path(arguments.index)))
    if arguments.out:
        arguments.out.write_bytes(coverage_page(cells, data.matrix.exclusions))
    logger.info("%s", coverage_text(cells))
    columns = ("cell", "state", "evidence", "version", "why")
    print_table([asdict(one) for one in cells], columns=columns, as_json=arguments.json)
    return EXIT_DONE


def run_evidence(arguments: argparse.Namespace) -> int:
    """Add a pod's report (apex-install check --run --json) to its wheel's entry, self-reported."""
    added = add_evidence(arguments.report, store=DirectoryStore(arguments.index))
    logger.info("%s: %s", added.entry.file, gpu_evidence(added.entry))
    if arguments.json:
        tests = added.entry.tests
        print_json({"state": added.state, "file": added.entry.file, "tests": tests})
    else:
        print_line(added.state)
    return EXIT_DONE


def plan_jobs(
    data: FarmData,
    arguments: argparse.Namespace,
    *,
    cells: Sequence[str],
    asked: Sequence[str] = (),
) -> Planned:
    """Plan against the index that the command line names, less what is known not to build.

    `--force` builds what is fresh and tries what failed. `asked` are issues as `--misses` takes
    them.
    """
    place = str(arguments.index)
    entries = read_entries(place, [row.cell for row in choose_rows(data, cells)])
    plan = make_plan(
        data,
        entries,
        cells=cells,
        only=[word for words in arguments.only or () for word in words.split(",")],
        arch=arguments.arch,
        force=arguments.force,
    )
    misses = _count_misses(asked, getattr(arguments, "misses", None), data)
    planned = _split(plan, () if arguments.force else _known(data, place), misses)
    for _, failure in planned.known:
        logger.info("left out until its inputs change: %s", failure.line)
    return planned


def write_coverage(data: FarmData, *, store: Store) -> None:
    """Render the page of coverage into an index, as it is now, and lead to it."""
    with store.locked():
        entries = store.entries()
        cells = cover(data, entries, _known(data, str(store.directory)))
        page = coverage_page(cells, data.matrix.exclusions)
        write_index(entries, store=store, beside={COVERAGE: page})


def note_failures(folder: Path, endings: Iterable[Ending]) -> tuple[KnownFailure, ...]:
    """Keep what failed in the folder's known-failures.toml, and take out what was built."""
    known = read_failures(folder)
    noted = note_results(known, endings, today=f"{datetime.now(UTC):%Y-%m-%d}")
    if noted != known:
        logger.info("noted: %s", write_failures(folder, noted))
    return noted


def _known(data: FarmData, place: str) -> tuple[KnownFailure, ...]:
    """What the data folder knows, and what the index knows."""
    return (*read_failures(data.directory), *read_known(place))


def _split(plan: Plan, failures: Sequence[KnownFailure], misses: dict[str, int]) -> Planned:
    ordered = order_jobs(plan.jobs, misses)
    found = [(job, find_failure(job, failures)) for job in ordered]
    return Planned(
        jobs=tuple(job for job, failure in found if failure is None),
        fresh=plan.fresh,
        known=tuple((job, failure) for job, failure in found if failure is not None),
        misses=misses,
    )


def _count_misses(asked: Sequence[str], path: Path | None, data: FarmData) -> dict[str, int]:
    """What is missed, and a line for each cell that is missed and not wanted."""
    misses = count_misses(asked, where="issues")
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: not UTF-8: {error}") from error
        misses += count_misses(lines, where=str(path))
    wanted = {row.cell.label for row in data.matrix.rows}
    for label, count in misses.most_common():
        if label not in wanted:
            logger.info("missed %d times, and not in matrix.toml: %s", count, label)
    return dict(misses)


def _groups(jobs: Sequence[Job], rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What a workflow's matrix includes; each job of it is one `wheelbuild run <cells>`."""
    groups = []
    for group in group_jobs(jobs):
        labels = [job.cell.label for job in group.jobs]
        groups.append(
            {
                "name": group.name,
                "cells": " ".join(labels),
                "minutes": round(sum(rows[label]["minutes"] for label in labels)),
                "jobs": [rows[label] for label in labels],
            }
        )
    return groups


def _job_row(job: Job, estimate: Estimate, misses: dict[str, int]) -> dict[str, Any]:
    return {
        "cell": job.cell.label,
        "version": job.version,
        "build": job.build_tag or "",
        "ref": f"{job.ref_name} ({job.ref[:8]})",
        "modules": list(job.modules),
        "architectures": job.architectures.text,
        "missed": misses.get(job.cell.label, 0),
        "minutes": round(estimate.minutes, 1),
        "download_gb": round(estimate.download / 1e9, 1),
        "disk_gb": round(estimate.disk / 1e9, 1),
        "why": job.why,
    }
