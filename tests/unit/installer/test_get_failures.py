from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import CompileError, DeadlineError
from apex_installer.get.failures import (
    Failure,
    describe,
    is_too_early,
    keep_failure,
    next_try,
    one_more,
    read_failure,
)

if TYPE_CHECKING:
    from pathlib import Path

AT = 1_764_000_000.0
MINUTES, DAY = 60.0, 86_400.0


def failure(count: int = 1, *, cause: str = "compile", budget: float = 600) -> Failure:
    return Failure(count, AT, budget, cause, "norm.cu:7: error")


@pytest.mark.parametrize(
    ("count", "wait"),
    [(1, 10 * MINUTES), (2, 20 * MINUTES), (3, 40 * MINUTES), (8, 1280 * MINUTES), (9, DAY)],
)
def test_each_failure_doubles_the_wait_up_to_a_day(count: int, wait: float) -> None:
    assert next_try(failure(count)) - AT == wait


def test_a_thousand_failures_are_counted_too() -> None:
    assert next_try(failure(10**6)) - AT == DAY


@pytest.mark.parametrize(
    ("passed", "early"),
    [(0, True), (599, True), (600, False), (-1, False), (-(10**9), False)],
)
def test_it_is_too_early_until_then_and_a_clock_that_went_back_does_not_count(
    passed: float, early: bool
) -> None:
    assert is_too_early(failure(), now=AT + passed, budget=600) is early


def test_more_time_is_a_reason_to_try_what_took_too_long() -> None:
    slow = failure(cause="deadline", budget=600)
    assert is_too_early(slow, now=AT, budget=600)
    assert not is_too_early(slow, now=AT, budget=601)
    assert is_too_early(failure(budget=600), now=AT, budget=9000)


def test_failures_add_up(tmp_path: Path) -> None:
    path = str(tmp_path / "failures" / "key.json")
    assert read_failure(path) is None
    first = one_more(None, at=AT, budget=600, error=CompileError("two\nlines"))
    keep_failure(path, first)
    again = one_more(read_failure(path), at=AT + 1, budget=60, error=DeadlineError("slow"))
    keep_failure(path, again)
    assert read_failure(path) == Failure(2, AT + 1, 60, "deadline", "slow")
    assert first.error == "two lines"
    assert [one.name for one in tmp_path.rglob("*.*")] == ["key.json"]


def test_the_line_says_when_and_how_to_force_it() -> None:
    said = describe(failure(), path="/cache/failures/key.json")
    assert said == (
        "was compiled in vain once, is tried again after 2025-11-24 16:10 UTC, at once after "
        "rm /cache/failures/key.json; it was: norm.cu:7: error"
    )
    assert "2 times" in describe(failure(2), path="x")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"count": "x"}', '{"count": 1e999}'])
def test_what_cannot_be_read_is_no_failure(tmp_path: Path, content: str) -> None:
    (tmp_path / "f").write_text(content)
    assert read_failure(str(tmp_path / "f")) is None
