"""Coverage: of each wanted cell whether it is published, tested on which GPU, failing or missing.

Pure: data, entries and known failures in; rows, counts and the bytes of the page out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wheelbuild.index.html import fill_template
from wheelbuild.index.overview import UNTESTED, gpu_evidence
from wheelbuild.index.paths import rebase
from wheelbuild.known_failures import find_failure
from wheelbuild.plan import find_newest, is_current, make_plan
from wheelbuild.upstream import python_order
from wheelbuild.variants import choose_offered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apex_installer.model.entry import Entry
    from wheelbuild.data import FarmData
    from wheelbuild.known_failures import KnownFailure
    from wheelbuild.matrix import Exclusion
    from wheelbuild.plan import Job

State = Literal["tested", "untested", "stale", "failing", "missing"]
STATES: dict[State, str] = {
    "tested": "published, run on a GPU",
    "untested": "published, not run on a GPU yet",
    "stale": "published, and to be built again: its inputs changed",
    "failing": "cannot be built, see below",
    "missing": "wanted, not built yet",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CellCoverage:
    """One wanted cell."""

    cell: str
    torch: str
    """`2.4`."""
    cuda: str
    """`cu121`."""
    python: str
    state: State
    version: str
    evidence: str
    """`NVIDIA H200, driver 570.1`; empty where nothing is published."""
    why: str
    """Of the failure, else the matrix's reason."""
    variants: tuple[str, ...]
    """Labels of the wheels for one architecture that lie beside it: `sm80`, `sm90`."""
    parts: tuple[tuple[str, str], ...]
    """Wheels that do not hold the cell's modules or architectures: `norm.sm90`, and where it is."""
    file: str
    """Of the newest plain wheel, also of one that is stale or whose successor fails; else empty."""
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One torch × CUDA of the page: a cell or none for each Python."""

    torch: str
    cuda: str
    cells: tuple[CellCoverage | None, ...]


def cover(
    data: FarmData, entries: Iterable[Entry], failures: Sequence[KnownFailure]
) -> tuple[CellCoverage, ...]:
    """Every wanted cell, in the matrix's order."""
    published = tuple(entries)
    plan = make_plan(data, published)
    jobs = {job.cell.label: job for job in (*plan.jobs, *plan.fresh)}
    return tuple(_cover(jobs[row.cell.label], published, failures) for row in data.matrix.rows)


def _cover(job: Job, entries: tuple[Entry, ...], failures: Sequence[KnownFailure]) -> CellCoverage:
    newest, failure = _newest(entries, job), find_failure(job, failures)
    # Of the plain wheel alone: variants that are missing yet leave a cell as it is.
    same = find_newest(entries, job)
    is_fresh = same is not None and is_current(same, job)
    evidence = gpu_evidence(newest) if newest else ""
    state: State
    if is_fresh:
        state = "untested" if evidence == UNTESTED else "tested"
    elif failure:
        state = "failing"
    else:
        state = "stale" if newest else "missing"
    why = failure.line.partition(": ")[2] if failure and not is_fresh else job.why
    yanked = newest is not None and newest.yanked is not None
    return CellCoverage(
        cell=job.cell.label,
        torch=job.cell.torch_text,
        cuda=job.cell.cuda_tag,
        python=job.cell.python,
        state=state,
        version=job.version,
        evidence=f"{evidence}, yanked" if yanked else evidence,
        why=why,
        variants=_variants_beside(newest, entries) if newest else (),
        parts=_parts(entries, job),
        file=newest.file if newest else "",
        url=rebase(newest.url, start="", to="") if newest else "",
    )


def _newest(entries: tuple[Entry, ...], job: Job) -> Entry | None:
    """Of the job's version, else of an older ref: that one is stale, and still there."""
    place = (job.cell.label, job.suffix, "")
    older = [one for one in entries if (one.cell, one.suffix, one.variant) == place]
    return find_newest(entries, job) or max(older, key=lambda one: one.uploaded, default=None)


def _parts(entries: tuple[Entry, ...], job: Job) -> tuple[tuple[str, str], ...]:
    """The newest of each suffix that is not the cell's own, but for yanked ones."""
    newest = {
        one.suffix: rebase(one.url, start="", to="")
        for one in sorted(entries, key=lambda one: one.uploaded)
        if one.cell == job.cell.label and one.suffix != job.suffix
        if not one.variant and one.yanked is None
    }
    return tuple(sorted(newest.items()))


def _variants_beside(plain: Entry, entries: tuple[Entry, ...]) -> tuple[str, ...]:
    """Those that the index offers with it."""
    same = [
        one
        for one in entries
        if (one.cell, one.version, one.build_tag) == (plain.cell, plain.version, plain.build_tag)
    ]
    return tuple(sorted(one.variant for one in choose_offered(same) if one.variant))


def coverage_text(cells: Sequence[CellCoverage]) -> str:
    """`87 wanted: 12 tested, 3 untested, 0 stale, 1 failing, 71 missing`."""
    counts = Counter(one.state for one in cells)
    return f"{len(cells)} wanted: " + ", ".join(f"{counts[state]} {state}" for state in STATES)


def coverage_page(cells: Sequence[CellCoverage], exclusions: Sequence[Exclusion]) -> bytes:
    """Bytes of the page: a table of torch × CUDA by Python, the failures, what is left out."""
    pythons = sorted({one.python for one in cells}, key=python_order)
    return fill_template(
        "coverage.html",
        summary=coverage_text(cells),
        states=STATES,
        counts=Counter(one.state for one in cells),
        pythons=pythons,
        lines=_lines(cells, pythons),
        failing=[one for one in cells if one.state == "failing"],
        excluded=[(_excluded(one), " ".join(one.why.split())) for one in exclusions],
    )


def _lines(cells: Sequence[CellCoverage], pythons: Sequence[str]) -> list[Line]:
    """The newest torch first."""
    by_place = {(one.torch, one.cuda, one.python): one for one in cells}
    pairs = {(one.torch, one.cuda) for one in cells}
    return [
        Line(
            torch=torch,
            cuda=cuda,
            cells=tuple(by_place.get((torch, cuda, python)) for python in pythons),
        )
        for torch, cuda in sorted(pairs, key=_numbers, reverse=True)
    ]


def _numbers(pair: tuple[str, str]) -> tuple[list[int], str]:
    return [int(part) for part in pair[0].split(".")], pair[1]


def _excluded(exclusion: Exclusion) -> str:
    """`cp314, cp315` or `torch 2.12 × CUDA 13.2`."""
    torches = ", ".join(f"{major}.{minor}" for major, minor in exclusion.torches)
    cudas = ", ".join(f"{major}.{minor}" for major, minor in exclusion.cudas)
    parts = [
        f"torch {torches}" if torches else "",
        f"CUDA {cudas}" if cudas else "",
        ", ".join(exclusion.pythons),
    ]
    return " × ".join(part for part in parts if part)
