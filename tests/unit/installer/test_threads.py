"""Work beside our own: results arrive, failures are raised where they are asked for."""

from __future__ import annotations

import _thread

import pytest

from apex_installer.threads import LateError, Later, map_in_threads


def test_a_later_call_runs_beside_ours() -> None:
    gate = _thread.allocate_lock()
    gate.acquire()
    later = Later(lambda: gate.acquire() and 7)
    gate.release()  # only another thread can have waited for this
    assert later.take() == 7
    assert later.take() == 7


def test_a_later_failure_is_raised_when_it_is_taken() -> None:
    later = Later(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        later.take()


def test_a_call_that_does_not_come_back_is_waited_for_so_long() -> None:
    gate = _thread.allocate_lock()
    gate.acquire()
    later = Later(gate.acquire)
    with pytest.raises(LateError):
        later.take(seconds=0.02)
    gate.release()
    assert later.take(seconds=20) is True


def test_without_memory_for_a_thread_it_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", start)
    assert Later(lambda: 7).take() == 7


@pytest.mark.parametrize("threads", [1, 3, 9])
def test_every_item_is_worked_on_once(threads: int) -> None:
    assert sorted(map_in_threads(lambda item: item * 2, range(7), threads=threads)) == [
        0, 2, 4, 6, 8, 10, 12
    ]  # fmt: skip


def test_what_one_item_raises_is_raised_and_no_further_item_begun() -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match="4"):
        map_in_threads(work, range(5), threads=1)
    assert begun == [4]
