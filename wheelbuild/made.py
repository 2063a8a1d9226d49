"""One cell made on one machine, in a folder that another machine publishes from.

<folder>/<cell>/result.json      how it ended: a wheel, or the first error
<folder>/<cell>/<wheel>          and <wheel>.tests.json beside it
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from apex_installer.errors import InstallError
from wheelbuild.engines.environment import find_environment
from wheelbuild.errors import FarmError, UsageError
from wheelbuild.known_failures import Ending, inputs_digest
from wheelbuild.publish import publish
from wheelbuild.run import RunOptions, Steps
from wheelbuild.stamp import entry_of, evidence_path
from wheelbuild.test import can_run_here, run_test

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelbuild.data import FarmData
    from wheelbuild.plan import Job
    from wheelbuild.stores.store import Store

logger = logging.getLogger(__name__)

RESULT = "result.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """How one cell ended on the machine that made it."""

    cell: str
    state: Literal["made", "failed", "bug", "published", "already"]
    step: str
    """The last step that was begun."""
    said: str
    """The wheel's file name, or the error."""
    seconds: int
    gpu: str = "untested"
    error: str = ""
    """Its class; empty where there was none."""
    version: str = ""
    inputs: str = ""
    """Of the job; empty where no machine got so far."""

    @property
    def is_bad(self) -> bool:
        """Whether this cell makes a run red."""
        return self.state in {"failed", "bug"}

    @property
    def ending(self) -> Ending:
        """What known-failures.toml is kept by."""
        return Ending(
            cell=self.cell,
            version=self.version,
            inputs=self.inputs,
            state=self.state,
            step=self.step,
            said=self.said,
            error=self.error,
        )


def make_cell(job: Job, *, data: FarmData, options: RunOptions, out: Path) -> Made:
    """Build, repair, stamp and test; raises for none of them, and leaves the folder either way."""
    folder = out / job.cell.label
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    steps, started = Steps(job, data=data, options=options), time.monotonic()
    state: Literal["made", "failed", "bug"] = "made"
    kind = ""
    try:
        names = []
        for wheel in steps.make():
            names.append(wheel.name)
            for path in (wheel, evidence_path(wheel)):
                shutil.copy2(path, folder)
        said = names[0]
    except (FarmError, InstallError) as error:
        state, said, kind = "failed", str(error), type(error).__name__
        logger.error("%s: %s: %s", job.cell.label, steps.step, error)  # noqa: TRY400 - no traceback
    except Exception as error:
        state, said, kind = "bug", repr(error), type(error).__name__
        logger.exception("%s: %s", job.cell.label, steps.step)
    seconds = round(time.monotonic() - started)
    made = Made(
        cell=job.cell.label,
        state=state,
        step=steps.step,
        said=said,
        seconds=seconds,
        error=kind,
        version=job.version,
        inputs=inputs_digest(job),
    )
    if state == "made":
        made = replace(made, gpu=_gpu_of(folder / said))
    _write(made, folder)
    return made


def read_made(out: Path) -> tuple[Made, ...]:
    """Every result below `out`, by cell; UsageError for one that is none."""
    found = []
    for path in sorted(out.glob(f"*/{RESULT}")):
        try:
            values = json.loads(path.read_bytes())
            if values.pop("schema") != SCHEMA:
                raise UsageError(f"{path}: of another farm's version: make it anew")
            found.append(Made(**values))
        except (ValueError, TypeError, LookupError) as error:
            raise UsageError(f"{path}: not a result: {error!r}") from error
    return tuple(found)


def wheels_of(made: Made, *, out: Path) -> tuple[Path, ...]:
    """The plain wheel first, then its variants."""
    folder = out / made.cell
    others = (path for path in sorted(folder.glob("*.whl")) if path.name != made.said)
    return (folder / made.said, *others)


def prove_on_gpu(made: Made, job: Job, *, data: FarmData, out: Path, cache: Path) -> Made:
    """Test a made wheel again, each module on this machine's GPU; its folder says how it ended."""
    folder, started = out / made.cell, time.monotonic()
    try:
        environment = find_environment(job, python=None, cache=cache)
        python = Path(environment.interpreter.executable)
        for wheel in wheels_of(made, out=out):
            if can_run_here(entry_of(wheel), environ=os.environ):
                run_test(wheel, python=python, data=data, on_gpu=True)
        proved = replace(made, gpu=_gpu_of(folder / made.said))
    except (FarmError, InstallError) as error:
        seconds = made.seconds + round(time.monotonic() - started)
        proved = replace(
            made,
            state="failed",
            step="test on a GPU",
            said=str(error),
            seconds=seconds,
            error=type(error).__name__,
        )
    _write(proved, folder)
    return proved


def publish_made(results: Iterable[Made], *, out: Path, store: Store, force: bool) -> list[Made]:
    """Publish every wheel; one that is refused never stops the others."""
    ended = []
    for made in results:
        if made.state != "made":
            ended.append(made)
            continue
        try:
            done = [
                publish(wheel, entry_of(wheel), store=store, force=force)
                for wheel in wheels_of(made, out=out)
            ]
            is_new = any(one.state == "published" for one in done)
            ended.append(replace(made, state="published" if is_new else "already", step="publish"))
        except (FarmError, InstallError) as error:
            logger.error("%s: publish: %s", made.cell, error)  # noqa: TRY400 - no traceback
            kind = type(error).__name__
            ended.append(replace(made, state="failed", step="publish", said=str(error), error=kind))
    return ended


def cut_off(cell: str) -> Made:
    """What stands for a cell whose machine left no result."""
    said = "no result: the job was cancelled, ran out of its time or could not start; see its log"
    return Made(cell=cell, state="failed", step="build", said=said, seconds=0)


def _gpu_of(wheel: Path) -> str:
    return str(entry_of(wheel).tests.get("gpu", "untested"))


def _write(made: Made, folder: Path) -> None:
    text = json.dumps({"schema": SCHEMA, **asdict(made)}, indent=1) + "\n"
    (folder / RESULT).write_text(text, encoding="utf-8")
