"""A few threads for work that releases Python's lock; `threading` costs 3 ms to import."""

from __future__ import annotations

import _thread
from typing import Callable, List, Sequence, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_threads(
    work: Callable[[_Item], _Result], items: Sequence[_Item], *, threads: int
) -> List[_Result]:
    """Results in no order, the last items first.

    What one raises is raised when all have stopped, and no further item is begun.
    """
    left = list(items)
    results: List[_Result] = []
    failures: List[BaseException] = []

    def run() -> None:
        while left and not failures:
            try:
                item = left.pop()
            except IndexError:
                return  # another was quicker
            try:
                results.append(work(item))
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)

    def run_and_release(lock: _thread.LockType) -> None:
        run()
        lock.release()

    locks = [_thread.allocate_lock() for _ in range(min(threads, len(left)) - 1)]
    for lock in locks:
        lock.acquire()
        _thread.start_new_thread(run_and_release, (lock,))
    run()
    for lock in locks:
        lock.acquire()
    if failures:
        raise failures[0]
    return results
