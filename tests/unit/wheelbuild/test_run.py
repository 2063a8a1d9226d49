from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from support.jobs import make_job
from wheelbuild import run
from wheelbuild.build import BuildOptions
from wheelbuild.errors import BuildError
from wheelbuild.run import CellResult, RunOptions, exit_code, may_build, run_cells

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelbuild.plan import Job


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


def run_by(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *jobs: Job,
    build: Callable[[Job], None] = lambda _: None,
    prove: Callable[[Job], None] = lambda _: None,
    on_gpu: bool = False,
) -> tuple[CellResult, ...]:
    """`run_cells` with these in place of the compilers and of all that comes after."""

    def build_cell(job: Job, **_: Any) -> Path:
        build(job)
        return folder

    def proved(steps: Any, built: Path) -> Path:
        prove(steps.job)
        return built

    monkeypatch.setattr(run, "build_cell", build_cell)
    monkeypatch.setattr(run.Steps, "prove", proved)
    monkeypatch.setattr(run.Steps, "publish", lambda steps, _: ("published", steps.job.version))
    options: Any = RunOptions(
        build=BuildOptions(cache=folder, work=folder, jobs=4),
        store=None,  # type: ignore[arg-type]  # nothing is published
        on_gpu=on_gpu,
    )
    return run_cells(jobs, data=None, options=options)  # type: ignore[arg-type]


def test_the_next_cell_is_built_while_one_is_tested(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    second_begun = threading.Event()

    def build(job: Job) -> None:
        if job.version == "2":
            second_begun.set()

    def prove(job: Job) -> None:
        assert job.version != "1" or second_begun.wait(timeout=30)

    jobs = [make_job(version="1"), make_job(version="2")]
    results = run_by(monkeypatch, tmp_path, *jobs, build=build, prove=prove)
    assert [one.said for one in results] == ["1", "2"]


def test_on_a_gpu_one_cell_is_tested_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = threading.Lock()

    def prove(_: Job) -> None:
        assert alone.acquire(blocking=False)
        time.sleep(0.02)
        alone.release()

    jobs = [make_job(version=str(number), torch=f"2.{number}.0+cu130") for number in range(6)]
    results = run_by(monkeypatch, tmp_path, *jobs, prove=prove, on_gpu=True)
    assert [one.state for one in results] == ["published"] * 6
    assert [one.said for one in results] == [job.version for job in jobs]


def test_without_one_cells_are_tested_side_by_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    both = threading.Barrier(2, timeout=30)

    def prove(_: Job) -> None:
        both.wait()

    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    jobs = [make_job(version=str(number), torch=f"2.{number}.0+cu130") for number in range(2)]
    results = run_by(monkeypatch, tmp_path, *jobs, prove=prove)
    assert [one.state for one in results] == ["published"] * 2


def test_an_index_has_one_writer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone = threading.Lock()

    def publish(*_: Any, **__: Any) -> Any:
        assert alone.acquire(blocking=False)
        time.sleep(0.02)
        alone.release()
        return SimpleNamespace(state="published", entry=SimpleNamespace(file="x.whl", variant=""))

    monkeypatch.setattr(run, "publish", publish)
    monkeypatch.setattr(run, "entry_of", lambda _: None)
    options: Any = SimpleNamespace(store=None, force=False)

    def publish_one(_: int) -> str:
        steps = run.Steps(make_job(), data=None, options=options)  # type: ignore[arg-type]
        return steps.publish([tmp_path])[0]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(publish_one, range(8))) == ["published"] * 8


def test_objects_are_made_by_one_build_before_others_want_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spans: dict[str, tuple[float, float]] = {}
    rest = threading.Barrier(2, timeout=30)  # the two that follow are built at the same time

    def build(job: Job) -> None:
        began = time.monotonic()
        if job.version != "1":
            rest.wait()
        time.sleep(0.02)
        spans[job.version] = (began, time.monotonic())

    jobs = [make_job(version=str(number)) for number in (1, 2, 3)]
    run_by(monkeypatch, tmp_path, *jobs, build=build)
    assert spans["1"][1] <= min(spans["2"][0], spans["3"][0])


def test_may_build_keeps_the_order_and_one_maker_per_torch() -> None:
    old, new = "2.6.0+cu124", "2.11.0+cu130"
    jobs = [make_job(torch=torch) for torch in (new, new, old, old)]
    assert may_build(jobs, [], set()) == [0, 2]
    assert may_build(jobs[1:], [jobs[0]], set()) == [1]
    assert may_build(jobs[1:], [jobs[2]], {new}) == [0]
    assert may_build(jobs, [jobs[0]], {new, old}) == [0, 1, 2, 3]


def test_a_torch_whose_first_build_failed_gets_another_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build(job: Job) -> None:
        if job.version == "1":
            raise BuildError("nvcc said no")

    jobs = [make_job(version=str(number)) for number in (1, 2, 3)]
    results = run_by(monkeypatch, tmp_path, *jobs, build=build)
    assert [one.state for one in results] == ["failed", "published", "published"]


def test_ctrl_c_ends_what_the_threads_have_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended = threading.Event()

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "wait", interrupt)
    monkeypatch.setattr(run, "end_commands", ended.set)
    jobs = [make_job(version="1"), make_job(version="2")]
    with pytest.raises(KeyboardInterrupt):
        # A command that goes on until it is ended.
        run_by(monkeypatch, tmp_path, *jobs, build=lambda _: ended.wait(timeout=30) and None)
    assert ended.is_set()
