"""What a run says on its page: each cell, and of each failure the first error. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from wheelbuild.made import Made

NO_GPU = (
    "No GPU has run these wheels: they are published as **untested**. Name a runner with a GPU by "
    "the repository variable `GPU_RUNNER`."
)
NOTED = (
    "Not tried again until its inputs change, or by hand with *force*, since the same inputs would "
    "fail again: "
)
_LONGEST = 500
_FRAME = str.maketrans({"|": "\\|", "\n": " ", "\r": " ", "`": "'", "<": "&lt;", "@": "&#64;"})


def summarize_results(
    results: Sequence[Made], *, pages_url: str, noted: Collection[str] = ()
) -> str:
    """Markdown: what failed first, then what was published, then how to install it.

    `noted`: cells whose failures are known from now on.
    """
    bad = [made for made in results if made.is_bad]
    good = [made for made in results if not made.is_bad]
    parts = [_heading(bad=len(bad), good=len(good))]
    if bad:
        rows = ((made.cell, made.step, first_error(made.said)) for made in bad)
        parts.append(_table(("cell", "failed at", "first error"), rows))
        if lasting := [f"`{made.cell}`" for made in bad if made.cell in noted]:
            parts.append(f"{NOTED}{', '.join(lasting)}")
    if good:
        known = [(made.cell, str(made.state), made.gpu, made.said) for made in good]
        parts.append(_table(("cell", "state", "GPU", "wheel"), known))
        if any(made.gpu == "untested" for made in good):
            parts.append(NO_GPU)
        parts.append(f"Index: {pages_url}")
    return "\n\n".join(parts) + "\n"


def summarize_plan(
    cells: Sequence[str], *, fresh: int, left: int, known: Sequence[str] = ()
) -> str:
    """Markdown: what this run will build, and what is `known` not to build, which it leaves out."""
    said = f"{len(cells)} to build, {fresh} in the index and fresh"
    later = f", {left} left for the next run (a run takes 256 at most)" if left else ""
    return (
        "\n".join(
            [f"## Plan\n\n{said}{later}.\n", *(f"- `{cell}`" for cell in cells), *_known(known)]
        )
        + "\n"
    )


def _known(lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    head = "\nKnown not to build, left out until their inputs change:\n"
    return [head, *(f"- {as_text(first_error(line))}" for line in lines)]


def as_text(said: str) -> str:
    """What somebody else wrote, as text in Markdown: no markup, no table's frame, nobody called."""
    return said.translate(_FRAME)


def first_error(said: str) -> str:
    """The first line that says something, within what a table bears."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines or ["it said nothing"])[0][:_LONGEST]


def _heading(*, bad: int, good: int) -> str:
    if not bad and not good:
        return "## Nothing to build: what is wanted is in the index, or known not to build"
    return f"## {good} published, {bad} failed"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([as_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
