"""Which skips a CI run forgives."""

from __future__ import annotations

import pytest

from support.skips import SkipCount, reason_of


def report(reason: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid="test",
        location=("test.py", 1, "test"),
        keywords={},
        outcome="skipped",
        longrepr=("test.py", 1, f"Skipped: {reason}"),
        when="call",
    )


def test_reason_of() -> None:
    assert reason_of(("x.py", 3, "Skipped: no strace")) == "no strace"


def test_what_a_machine_may_lack_is_forgiven() -> None:
    count = SkipCount()
    for reason in ("no GPU", "no Apex source", "no strace", "no strace"):
        count.add(report(reason))

    assert count.unforgiven == ["no strace"]
    assert count.reasons["no strace"] == 2
