from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.jobs import make_job
from wheelbuild import run
from wheelbuild.build import BuildOptions
from wheelbuild.errors import BuildError
from wheelbuild.run import CellResult, RunOptions, exit_code, run_cells

if TYPE_CHECKING:
    from pathlib import Path


def result(state: Any) -> CellResult:
    return CellResult(job=make_job(), state=state, step="build", said="", seconds=0)


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((), 0),
        (("published", "already"), 0),
        (("published", "failed"), 3),
        (("failed", "bug"), 1),
    ],
)
def test_the_worst_cell_decides_the_exit_code(states: tuple[str, ...], code: int) -> None:
    assert exit_code(map(result, states)) == code


def test_a_cell_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    errors = iter([BuildError("nvcc said no"), ZeroDivisionError("ours")])
    tried = []

    def build(job: Any, **_: Any) -> Path:
        tried.append(job.version)
        raise next(errors)

    monkeypatch.setattr(run, "build_cell", build)
    options: Any = RunOptions(
        build=BuildOptions(cache=tmp_path, work=tmp_path),
        store=None,  # type: ignore[arg-type]  # no cell gets that far
    )
    jobs = [make_job(version="1"), make_job(version="2")]
    results = run_cells(jobs, data=None, options=options)  # type: ignore[arg-type]
    assert tried == ["1", "2"]
    assert [(one.state, one.step, one.said) for one in results] == [
        ("failed", "build", "nvcc said no"),
        ("bug", "build", "ZeroDivisionError('ours')"),
    ]
