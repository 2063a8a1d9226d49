"""All steps for the cells that are named; a cell that fails never stops the others.

    build ─> repair ─> stamp ─> test ─┐
    build ─> repair ─> stamp ─> test ─┼─> publish     one wheel after the other
    build ─> repair ─> stamp ─> test ─┘

While a cell is tested the next ones are compiled, and while a build's last objects leave cores idle
another's take them: all share one width (`apex_installer.make.slots`). On a GPU one cell is tested
after the other.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from apex_installer.errors import InstallError
from wheelbuild.build import BuildOptions, build_cell, find_request, list_variants
from wheelbuild.command import end_commands
from wheelbuild.errors import EXIT_BUG, EXIT_DONE, EXIT_STEP, FarmError
from wheelbuild.known_failures import Ending, inputs_digest
from wheelbuild.publish import Published, publish
from wheelbuild.repair import repair_wheel
from wheelbuild.stamp import entry_of, stamp_wheel
from wheelbuild.telling import told_for
from wheelbuild.test import can_run_here, run_test

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from wheelbuild.data import FarmData
    from wheelbuild.plan import Job
    from wheelbuild.stores.store import Store

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 4
"""Builds, and wheels that are tested: each has a precompiled header or a torch in memory."""

_ONE_WRITER = threading.Lock()
"""Held to publish: an index has one writer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """What holds for all cells of one run."""

    build: BuildOptions
    store: Store
    on_gpu: bool = False
    policy: str | None = None
    """manylinux policy that every wheel must be fit for; None: claim what is found."""
    force: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CellResult:
    """How one cell ended."""

    job: Job
    state: Literal["published", "already", "failed", "bug"]
    step: str
    """The last step that was begun."""
    said: str
    """The wheel's file name, or the error."""
    seconds: float
    """From the build's begin, with what it waited for others."""
    error: str = ""
    """Its class; empty where there was none."""

    @property
    def ending(self) -> Ending:
        """What known-failures.toml is kept by."""
        return Ending(
            cell=self.job.cell.label,
            version=self.job.version,
            inputs=inputs_digest(self.job),
            state=self.state,
            step=self.step,
            said=self.said,
            error=self.error,
        )


def run_cells(
    jobs: Iterable[Job], *, data: FarmData, options: RunOptions
) -> tuple[CellResult, ...]:
    """Take every job through all steps, in their order; raises for none of them."""
    line = [_Cell(job, data=data, options=options) for job in jobs]
    for cell in line:
        cell.is_told = len(line) > 1
    cores = options.build.jobs or len(os.sched_getaffinity(0))
    with (
        ThreadPoolExecutor(min(MOST_AT_ONCE, cores)) as builders,
        # Two wheels' tests at once could want more than a GPU's memory.
        ThreadPoolExecutor(1 if options.on_gpu else min(MOST_AT_ONCE, cores)) as finishers,
    ):
        try:
            _run_line(line, builders=builders, finishers=finishers)
        except BaseException:
            # Ctrl-C: what the other threads have started would go on without anyone.
            for pool in (builders, finishers):
                pool.shutdown(wait=False, cancel_futures=True)
            end_commands()
            raise
    return tuple(cell.result for cell in line)


def exit_code(results: Iterable[CellResult]) -> int:
    """0 if all went well, 3 if a step failed, 1 if one failed by a bug of ours."""
    states = {result.state for result in results}
    if "bug" in states:
        return EXIT_BUG
    return EXIT_STEP if "failed" in states else EXIT_DONE


def _run_line(
    line: Sequence[_Cell], *, builders: ThreadPoolExecutor, finishers: ThreadPoolExecutor
) -> None:
    waiting, finishing = list(line), []
    building: dict[Future[bool], _Cell] = {}
    compiled: set[str] = set()
    while waiting or building:
        jobs = [cell.job for cell in waiting]
        chosen = may_build(jobs, [cell.job for cell in building.values()], compiled)
        building.update({builders.submit(waiting[one].build): waiting[one] for one in chosen})
        waiting = [cell for one, cell in enumerate(waiting) if one not in chosen]
        done, _ = wait(building, return_when=FIRST_COMPLETED)
        for future in done:
            cell = building.pop(future)
            if future.result():
                compiled.add(objects_of(cell.job))
                finishing.append(finishers.submit(cell.finish))
    for one in finishing:
        one.result()


def may_build(jobs: Sequence[Job], building: Iterable[Job], compiled: Collection[str]) -> list[int]:
    """Numbers of the waiting jobs that may be built beside those that are. Pure.

    One torch × CUDA's objects serve all its Pythons: until one build has made them (`compiled`) no
    other may start, or both would make the same ones.
    """
    taken = {objects_of(job) for job in building} - set(compiled)
    found = []
    for number, job in enumerate(jobs):
        name = objects_of(job)
        if name not in taken:
            found.append(number)
        if name not in compiled:
            taken.add(name)
    return found


def objects_of(job: Job) -> str:
    """What says which jobs share objects, before a toolchain is looked at: `2.11.0+cu130`."""
    return job.torch


class Steps:
    """One cell's way; `step` is the one that was begun last."""

    def __init__(self, job: Job, *, data: FarmData, options: RunOptions) -> None:
        self.job, self.data, self.options = job, data, options
        self.step = "build"
        self._variant = ""

    def make(self) -> Iterator[Path]:
        """All but publishing; each stamped wheel, its evidence beside it: the plain one first."""
        yield from self.prove(self.build())

    def build(self) -> Path:
        """The plain wheel as the compilers left it; its variants lie beside."""
        return build_cell(self.job, data=self.data, options=self.options.build)

    def prove(self, built: Path) -> Iterator[Path]:
        """Repair, stamp and test each; the stamped wheels."""
        for wheel in (built, *list_variants(built)):
            yield self._prove_one(wheel)

    def publish(self, stamped: Iterable[Path]) -> tuple[Literal["published", "already"], str]:
        """Put each into the index as it comes, if it is not there."""
        done: list[Published] = []
        for wheel in stamped:
            self._begin("publish")
            store, force = self.options.store, self.options.force
            with _ONE_WRITER:
                done.append(publish(wheel, entry_of(wheel), store=store, force=force))
        labels = ", ".join(one.entry.variant for one in done if one.entry.variant)
        is_new = any(one.state == "published" for one in done)
        said = f"{done[0].entry.file} and {labels}" if labels else done[0].entry.file
        return "published" if is_new else "already", said

    def _prove_one(self, built: Path) -> Path:
        self._variant = find_request(built).variant
        self._begin("repair")
        policy = self.options.policy or self.options.build.engine.policy(self.job)
        repaired = repair_wheel(built, out=_beside(built, "repaired"), policy=policy)
        self._begin("stamp")
        request = find_request(repaired)
        stamped = stamp_wheel(repaired, request=request, out=_beside(repaired, "stamped"))
        self._begin("test")
        python = self.options.build.python or Path(request.interpreter)
        on_gpu = self.options.on_gpu and can_run_here(entry_of(stamped), environ=os.environ)
        run_test(stamped, python=python, data=self.data, on_gpu=on_gpu)
        return stamped

    def _begin(self, step: str) -> None:
        self.step = f"{step} {self._variant}".rstrip()
        logger.info("%s: %s", self.job.cell.label, self.step)


class _Cell:
    """One cell in the line: two stages, each in a thread of its own; neither raises."""

    result: CellResult

    def __init__(self, job: Job, *, data: FarmData, options: RunOptions) -> None:
        self.job = job
        self.is_told = False
        """Whether its lines say its name."""
        self._steps = Steps(job, data=data, options=options)
        self._began = 0.0
        self._built = Path()

    def build(self) -> bool:
        """Whether there is something to finish; else `result` is there."""
        self._began = time.monotonic()
        return self._try(self._build)

    def finish(self) -> None:
        """`result` is there."""
        self._try(self._finish)

    def _build(self) -> None:
        self._built = self._steps.build()

    def _finish(self) -> None:
        state, said = self._steps.publish(self._steps.prove(self._built))
        self._end(state, said)

    def _try(self, stage: Callable[[], None]) -> bool:
        label, steps = self.job.cell.label, self._steps
        with told_for(label) if self.is_told else nullcontext():
            try:
                stage()
            except (FarmError, InstallError) as error:
                self._end("failed", str(error), type(error).__name__)
                logger.error("%s: %s: %s", label, steps.step, error)  # noqa: TRY400 - no traceback
                return False
            except Exception as error:
                self._end("bug", repr(error), type(error).__name__)
                logger.exception("%s: %s", label, steps.step)
                return False
        return True

    def _end(
        self, state: Literal["published", "already", "failed", "bug"], said: str, error: str = ""
    ) -> None:
        self.result = CellResult(
            job=self.job,
            state=state,
            step=self._steps.step,
            said=said,
            seconds=time.monotonic() - self._began,
            error=error,
        )


def _beside(wheel: Path, name: str) -> Path:
    """The work folder's own folder for the next step's result."""
    return wheel.parent.parent / name
