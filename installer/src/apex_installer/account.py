"""The account of one run while it runs: seconds, findings and attempts, for the report."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import apex_installer
from apex_installer.errors import (
    EXIT_NOTHING_GOOD_ENOUGH,
    EXIT_USABLE,
    InstallError,
    RequirementError,
)
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.model.report import Attempt, Refusal, Report

if TYPE_CHECKING:
    from apex_installer.pick import Choice  # `already` needs no choice


class Account:
    """Filled by the steps in order, closed once into a `Report`."""

    def __init__(
        self, *, say: Callable[[str], None], announce: Optional[Callable[[str], None]] = None
    ) -> None:
        """`say` takes a line for people who asked for detail, `announce` one for those who wait."""
        self.say = say
        self.announce = announce or say
        self.started = time.monotonic()
        self.environment: Optional[Environment] = None
        self.chosen: Optional[Entry] = None
        self.refusals: Tuple[Refusal, ...] = ()
        self.nearest: Optional[Refusal] = None
        self.attempts: List[Attempt] = []
        self.findings: List[str] = []
        self.evidence: Tuple[Mapping[str, Any], ...] = ()
        self.examined: Tuple[Mapping[str, Any], ...] = ()
        self.seconds: Dict[str, float] = {}
        self.cache: Mapping[str, Any] = {}
        self.bytes = {"downloaded": 0, "installed": 0}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a named step; a step that runs twice adds up."""
        started = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 4)
            self.say(f"{name}: {spent * 1000:.0f} ms")

    def find(self, line: Optional[str]) -> None:
        """Keep a finding, if there is one."""
        if line:
            self.findings.append(line)
            self.say(line)

    def note_choice(self, choice: Choice) -> None:
        """Keep what was chosen, and why not the others."""
        self.chosen, self.refusals, self.nearest = choice.best, choice.refusals, choice.nearest

    def fail(self, outcome: str, error: InstallError) -> None:
        """Keep an attempt that did not come to be."""
        spent = self.seconds.get(outcome, 0.0)
        self.attempts.append(Attempt(outcome, error.cause, str(error), spent))
        self.say(f"{outcome}: {error.cause}: {error}")

    @property
    def causes(self) -> str:
        """Why each attempt did not come to be, in one line."""
        return "; ".join(f"{attempt.cause}: {attempt.detail}" for attempt in self.attempts)

    def close(
        self,
        outcome: str,
        line: str,
        *,
        error: Optional[InstallError] = None,
        exit_code: Optional[int] = None,
        foreign: bool = False,
        dry_run: bool = False,
    ) -> Report:
        """Make the report; an `error` decides the exit code (RequirementError either way)."""
        self.seconds["total"] = round(time.monotonic() - self.started, 4)
        return Report(
            outcome=outcome,
            exit_code=_exit_code(outcome, error) if exit_code is None else exit_code,
            line=line,
            version=apex_installer.__version__,
            environment=environment_facts(self.environment) if self.environment else {},
            chosen=self.chosen.to_json() if self.chosen else None,
            degraded=outcome == "python-only",
            foreign=foreign,
            cache=self.cache,
            dry_run=dry_run,
            refusals=self.refusals,
            nearest=self.nearest,
            attempts=tuple(self.attempts),
            findings=tuple(self.findings),
            evidence=self.evidence,
            examined=self.examined,
            seconds=dict(self.seconds),
            bytes=dict(self.bytes),
        )


def _exit_code(outcome: str, error: Optional[InstallError]) -> int:
    if isinstance(error, RequirementError) and not error.breaks_import:
        return EXIT_USABLE
    if error is not None:
        return error.exit_code
    return EXIT_USABLE if outcome != "none" else EXIT_NOTHING_GOOD_ENOUGH


def environment_facts(environment: Environment) -> Mapping[str, Any]:
    """The environment as the report shows it."""
    interpreter, torch, devices = environment.interpreter, environment.torch, environment.devices
    return {
        "python": interpreter.executable,
        "python_tag": interpreter.tag,
        "platform": interpreter.platform,
        "torch": torch.version,
        "torch_git": torch.git,
        "torch_directory": torch.directory,
        "cuda": torch.cuda,
        "hip": torch.hip,
        "cxx11_abi": torch.cxx11_abi,
        "gpus": [gpu.text for gpu in devices.gpus],
        "gpus_from": devices.source,
        "driver": devices.driver,
        "driver_cuda": ".".join(map(str, devices.driver_cuda)) if devices.driver_cuda else None,
        "glibc": ".".join(map(str, environment.glibc)) if environment.glibc else None,
        "target": environment.target,
    }
