"""All steps for the cells that are named; a cell that fails never stops the others."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from apex_installer.errors import InstallError
from wheelbuild.build import BuildOptions, build_cell, find_request
from wheelbuild.errors import EXIT_BUG, EXIT_DONE, EXIT_STEP, FarmError
from wheelbuild.known_failures import Ending, inputs_digest
from wheelbuild.publish import publish
from wheelbuild.repair import repair_wheel
from wheelbuild.stamp import entry_of, stamp_wheel
from wheelbuild.test import run_test

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelbuild.data import FarmData
    from wheelbuild.plan import Job
    from wheelbuild.stores.store import Store

logger = logging.getLogger(__name__)


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
    """Take every job through all steps, one after the other; raises for none of them."""
    return tuple(_run_cell(job, data=data, options=options) for job in jobs)


def exit_code(results: Iterable[CellResult]) -> int:
    """0 if all went well, 3 if a step failed, 1 if one failed by a bug of ours."""
    states = {result.state for result in results}
    if "bug" in states:
        return EXIT_BUG
    return EXIT_STEP if "failed" in states else EXIT_DONE


def _run_cell(job: Job, *, data: FarmData, options: RunOptions) -> CellResult:
    steps = Steps(job, data=data, options=options)
    started = time.monotonic()
    state: Literal["published", "already", "failed", "bug"]
    kind = ""
    try:
        state, said = steps.all()
    except (FarmError, InstallError) as error:
        state, said, kind = "failed", str(error), type(error).__name__
        logger.error("%s: %s: %s", job.cell.label, steps.step, error)  # noqa: TRY400 - no traceback
    except Exception as error:
        state, said, kind = "bug", repr(error), type(error).__name__
        logger.exception("%s: %s", job.cell.label, steps.step)
    seconds = time.monotonic() - started
    return CellResult(job=job, state=state, step=steps.step, said=said, seconds=seconds, error=kind)


class Steps:
    """One cell's way; `step` is the one that was begun last."""

    def __init__(self, job: Job, *, data: FarmData, options: RunOptions) -> None:
        self.job, self.data, self.options = job, data, options
        self.step = "build"

    def all(self) -> tuple[Literal["published", "already"], str]:
        stamped = self.make()
        self._begin("publish")
        published = publish(
            stamped, entry_of(stamped), store=self.options.store, force=self.options.force
        )
        return published.state, published.entry.file

    def make(self) -> Path:
        """All but publishing; the stamped wheel, its evidence beside it."""
        built = build_cell(self.job, data=self.data, options=self.options.build)
        self._begin("repair")
        policy = self.options.policy or self.options.build.engine.policy(self.job)
        repaired = repair_wheel(built, out=_beside(built, "repaired"), policy=policy)
        self._begin("stamp")
        request = find_request(repaired)
        stamped = stamp_wheel(repaired, request=request, out=_beside(repaired, "stamped"))
        self._begin("test")
        python = self.options.build.python or Path(request.interpreter)
        run_test(stamped, python=python, data=self.data, on_gpu=self.options.on_gpu)
        return stamped

    def _begin(self, step: str) -> None:
        self.step = step
        logger.info("%s: %s", self.job.cell.label, step)


def _beside(wheel: Path, name: str) -> Path:
    """The work folder's own folder for the next step's result."""
    return wheel.parent.parent / name
