from __future__ import annotations

import pytest

from apex_installer.deadline import Deadline
from apex_installer.errors import DeadlineError


def test_counts_down_on_its_clock() -> None:
    now = [100.0]
    deadline = Deadline(10, clock=lambda: now[0])
    now[0] = 107.5
    assert deadline.remaining() == 2.5
    deadline.check("reading")


def test_says_what_was_being_done() -> None:
    now = [0.0]
    deadline = Deadline(10, clock=lambda: now[0])
    now[0] = 10.0
    with pytest.raises(DeadlineError, match=r"reading: the time budget of 10 s is used up"):
        deadline.check("reading")


def test_can_be_nearer_for_a_while() -> None:
    now = [0.0]
    deadline = Deadline(10, clock=lambda: now[0])
    with deadline.narrowed(3):
        now[0] = 2.0
        assert deadline.remaining() == 1.0
        now[0] = 4.0
        with pytest.raises(DeadlineError, match="time budget of 3 s"):
            deadline.check("reading")
    assert (deadline.remaining(), deadline.seconds) == (6.0, 10)


def test_is_never_made_longer() -> None:
    now = [0.0]
    deadline = Deadline(10, clock=lambda: now[0])
    with deadline.narrowed(30):
        assert deadline.remaining() == 10.0
