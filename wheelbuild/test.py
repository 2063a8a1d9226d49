"""Test: a stamped wheel is what its cell promises, and apex-install puts it into place.

The farm installs as a pod does, by a run of the packed apex-install from an index of this one
wheel, so that what is published has been chosen and installed by the code that pods run.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apex_installer.model.arch import Architectures
from apex_installer.read.devices import read_devices
from apex_installer.read.symbols import check_symbols
from wheelbuild.engines.environment import BuildEnvironment, read_environment
from wheelbuild.errors import TestError
from wheelbuild.stamp import entry_of, read_build_record, write_evidence
from wheelbuild.trial import Trial, make_trial
from wheelbuild.wheelfile import find_modules, unpack_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apex_installer.model.entry import Entry
    from wheelbuild.data import FarmData
    from wheelbuild.record import BuildRecord

logger = logging.getLogger(__name__)

_AT_ONCE = 4
"""Module tests at a time: most of each is `import torch`, and a GPU takes several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """A wheel that passed."""

    wheel: Path
    evidence: Mapping[str, Any]
    report: Mapping[str, Any]
    """Of the installer's run."""


def run_test(
    wheel: Path, *, python: Path, data: FarmData, on_gpu: bool = False, log: Path | None = None
) -> Tested:
    """Do every test; the evidence is written beside the wheel. TestError says what failed first.

    `python` holds the cell's torch. With `on_gpu` a GPU must be there and every module's test must
    have run on it; without, no test sees a GPU and the evidence says `untested`.
    """
    started = time.monotonic()
    record, environment = read_build_record(wheel), read_environment(python)
    _refuse(wheel, find_faults(record))
    with tempfile.TemporaryDirectory(prefix="wheelbuild-test-") as scratch:
        _check_symbols(wheel, environment, scratch=Path(scratch) / "wheel")
        trial = make_trial(environment, data=data, folder=Path(scratch) / "trial", log=log)
        report = trial.install(wheel, entry_of(wheel), on_gpu=on_gpu)
        trial.check_imports([module.name for module in record.modules])
        # Without a GPU a variant's modules have nothing to show that the plain wheel's did not.
        run = on_gpu or not record.variant
        results = run_modules(trial, record, data=data, on_gpu=on_gpu) if run else {}
    evidence = summarize(results, torch=environment.torch.version, on_gpu=on_gpu)
    evidence = {**evidence, "seconds": round(time.monotonic() - started, 1)}
    write_evidence(wheel, evidence)
    return Tested(wheel=wheel, evidence=evidence, report=report)


def can_run_here(entry: Entry, *, environ: Mapping[str, str]) -> bool:
    """Whether a plain wheel, or a variant for this machine's GPUs: another one tests nothing."""
    if not entry.variant:
        return True
    devices = read_devices(environ=environ, gpu=None)
    return bool(devices.gpus) and all(
        module.architectures.how_it_runs(
            gpu.capability, driver_cuda=devices.driver_cuda, made_by=entry.made_by
        )
        for gpu in devices.gpus
        for module in entry.modules
        if module.has_device_code
    )


def find_faults(record: BuildRecord) -> Iterator[str]:
    """Where modules or machine code are not what was asked for. Pure."""
    found = {module.name for module in record.modules}
    for name in sorted(set(record.asked) - found):
        yield f"lacks the module {name}"
    for name in sorted(found - set(record.asked)):
        yield f"holds the module {name}, which was not asked for"
    asked = Architectures.parse(record.architectures) if record.architectures else Architectures()
    held = [module for module in record.modules if module.has_device_code]
    for module in held:
        if module.architectures != asked:
            yield (
                f"{module.name} holds code for {module.architectures.text}, "
                f"asked for was {asked.text or 'none'}"
            )
    if record.architectures and not held:
        yield f"holds no device code at all, asked for was {record.architectures}"


def _refuse(wheel: Path, faults: Iterator[str]) -> None:
    found = list(faults)
    if found:
        raise TestError("\n".join(f"{wheel.name}: {fault}" for fault in found))


def _check_symbols(wheel: Path, environment: BuildEnvironment, *, scratch: Path) -> None:
    unpack_wheel(wheel, into=scratch)
    missing = check_symbols(
        [str(path) for path in find_modules(scratch).values()],
        interpreter=environment.interpreter,
        torch=environment.torch,
    )
    _refuse(wheel, (f"symbol check: {symbol.line}" for symbol in missing))


def run_modules(
    trial: Trial, record: BuildRecord, *, data: FarmData, on_gpu: bool
) -> dict[str, dict[str, Any]]:
    """Run the recipe's test of each module; TestError names all that failed or were skipped."""

    def run_one(name: str) -> dict[str, Any]:
        script = data.recipe.directory / data.recipe.modules[name].test
        result = trial.run_script(script, on_gpu=on_gpu)
        logger.info("%s: %s", name, json.dumps(result))
        return result

    names = [module.name for module in record.modules]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # Each in its own copy of this thread's context: their lines are told apart by it.
        coming = [pool.submit(copy_context().run, run_one, name) for name in names]
        results = {name: one.result() for name, one in zip(names, coming, strict=True)}
    faults = [
        fault for name in names for fault in _module_faults(name, results[name], on_gpu=on_gpu)
    ]
    if faults:
        raise TestError("\n".join(faults))
    return results


def _module_faults(name: str, result: Mapping[str, Any], *, on_gpu: bool) -> Iterator[str]:
    if result.get("failed"):
        yield f"{name}: {result['failed']} failed: {result['first_error']}"
    if on_gpu and "skipped" in result:
        yield f"{name}: --on-gpu, but its test says: {result['skipped']}"


def summarize(
    results: Mapping[str, Mapping[str, Any]], *, torch: str, on_gpu: bool
) -> dict[str, Any]:
    """The evidence for the entry: counts per module, and on which GPU and driver. Pure."""
    counts = {
        name: {key: result[key] for key in ("passed", "failed", "seconds") if key in result}
        or {"skipped": result.get("skipped", "")}
        for name, result in results.items()
    }
    ran = [result for result in results.values() if result.get("gpu")]
    gpu = ran[0] if on_gpu and ran else {"gpu": "untested"}
    return {
        "gpu": gpu["gpu"],
        **({"driver": gpu["driver"]} if gpu.get("driver") else {}),
        "torch": torch,
        "passed": sum(count.get("passed", 0) for count in counts.values()),
        "modules": counts,
    }
