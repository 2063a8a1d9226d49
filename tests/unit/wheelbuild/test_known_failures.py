"""Cells that are known not to build: left out until their inputs change."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_installer.model.arch import Architectures
from support.jobs import CELL, make_job
from wheelbuild.errors import DataError
from wheelbuild.known_failures import (
    FILE,
    Ending,
    KnownFailure,
    failures_text,
    find_failure,
    inputs_digest,
    note_results,
    read_failures,
    write_failures,
)
from wheelbuild.run import CellResult

if TYPE_CHECKING:
    from pathlib import Path

DAY = "2026-11-26"


def result(*, state: Any = "failed", error: str = "BuildError", **changes: Any) -> Ending:
    job = make_job(**changes)
    said = f"\n{job.cell.label}: a.cu:3: no\nmore"
    ended = CellResult(job=job, state=state, step="build", said=said, seconds=1, error=error)
    return ended.ending


def noted(**changes: Any) -> KnownFailure:
    (found,) = note_results((), [result(**changes)], today=DAY)
    return found


def test_a_failure_is_kept_with_its_first_error() -> None:
    assert noted() == KnownFailure(
        cell=CELL.label,
        version=make_job().version,
        inputs=inputs_digest(make_job()),
        step="build",
        error=f"{CELL.label}: a.cu:3: no",
        since=DAY,
    )
    assert noted().line == f"{CELL.label}: build failed on {DAY}: {CELL.label}: a.cu:3: no"


@pytest.mark.parametrize("state", ["published", "already"])
def test_a_cell_that_was_built_is_taken_out(state: str) -> None:
    assert note_results((noted(),), [result(state=state, error="")], today=DAY) == ()


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("failed", "SourceError"),
        ("failed", "CellError"),
        ("failed", "PublishError"),
        ("failed", "DownloadError"),
        ("failed", "CommandError"),
        ("bug", "ZeroDivisionError"),
    ],
)
def test_what_may_be_better_next_time_is_not_noted(state: str, error: str) -> None:
    assert note_results((), [result(state=state, error=error)], today=DAY) == ()


@pytest.mark.parametrize(
    "said",
    [
        "pip: Connection reset by peer",
        "/job/work/a.o: No space left on device; free some space or set TMPDIR",
        "a.cu: cicc was killed",
        "norm_cuda: 1 failed: CUDA error: out of memory",
        "norm_cuda: --on-gpu, but its test says: no GPU",
    ],
)
def test_what_another_machine_may_do_better_is_not_noted(said: str) -> None:
    assert note_results((), [replace(result(), said=said)], today=DAY) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe_digest": "1" * 64},
        {"modules": ("other",)},
        {"architectures": Architectures.parse("8.0")},
        {"torch": "2.11.1+cu130"},
        {"policy": "manylinux_2_34"},
        {"requires": ("torch==2.11.*",)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_it_is_known_until_its_inputs_change(changes: dict[str, Any]) -> None:
    known = (noted(),)
    assert find_failure(make_job(), known) == known[0]
    assert find_failure(make_job(**changes), known) is None


@pytest.mark.parametrize("changes", [{"why": "y"}, {"cpu_seconds": 9.0}, {"build_tag": 3}])
def test_a_reason_a_figure_or_a_build_tag_is_no_input(changes: dict[str, Any]) -> None:
    assert find_failure(make_job(**changes), (noted(),)) is not None


def test_a_newer_failure_takes_the_place_of_an_older() -> None:
    (found,) = note_results((noted(),), [result(recipe_digest="1" * 64)], today="2026-12-01")
    assert found.since == "2026-12-01"


def test_no_file_is_no_failure(tmp_path: Path) -> None:
    assert read_failures(tmp_path) == ()


def test_a_long_error_is_cut() -> None:
    long = replace(result(), said="x" * 9999)
    (found,) = note_results((), [long], today=DAY)
    assert len(found.error) == 400


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_words_are_read_back(step: str, error: str) -> None:
    known = (replace(noted(), step=step, error=error),)
    (found,) = tomllib.loads(failures_text(known))["failures"]
    assert (found["step"], found["error"]) == (step, error)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    known = (noted(), replace(noted(), version="2", error='"a" \\ \x7f \udcff\tb'))
    write_failures(tmp_path, known)
    first, second = read_failures(tmp_path)
    assert first == known[0]
    assert second.error == '"a" \\ \x7f ?\tb'
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_every_fault_of_the_file_is_named(tmp_path: Path) -> None:
    text = failures_text([noted()]).replace(DAY, "yesterday").replace("step =", "steps =")
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_failures(tmp_path)
    assert "since: 'yesterday'" in str(caught.value)
    assert "steps: unknown key" in str(caught.value)
