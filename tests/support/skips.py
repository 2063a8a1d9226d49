"""Lists at the end which tools were missing, and in CI fails for them."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

NO_GPU = "no GPU"
NO_APEX_SOURCE = "no Apex source"
FORGIVEN = frozenset({NO_GPU, NO_APEX_SOURCE})
"""What a CI machine may lack: everything else its own files install."""


class SkipCount:
    """Counts the reasons of this run's skips."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()

    def add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.reasons[reason_of(report.longrepr)] += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.add(report)

    @property
    def unforgiven(self) -> list[str]:
        """Reasons that fail a CI run."""
        return sorted(set(self.reasons) - FORGIVEN)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if in_ci() and self.unforgiven and session.exitstatus in {0, 5}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        if not self.reasons:
            return
        terminalreporter.section("skipped for want of")
        for reason, count in sorted(self.reasons.items()):
            terminalreporter.line(f"{reason}: {count} test{'s' if count > 1 else ''}")
        if in_ci() and self.unforgiven:
            terminalreporter.line(
                f"CI=true: these skips fail the run: {', '.join(self.unforgiven)}", red=True
            )


def reason_of(longrepr: object) -> str:
    """The words given to `pytest.skip`: the last of (path, line, "Skipped: no strace")."""
    text = str(longrepr[-1]) if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def in_ci() -> bool:
    """Whether a missing tool is a fault of the run."""
    return os.environ.get("CI", "").lower() == "true"
