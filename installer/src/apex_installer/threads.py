"""A few threads for work that releases Python's lock; `threading` costs 3 ms to import."""

from __future__ import annotations

import _thread
from typing import Callable, Generic, List, Optional, Sequence, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class LateError(Exception):
    """The call has not come back in time."""


class Later(Generic[_Result]):
    """A call that another thread makes meanwhile."""

    def __init__(self, call: Callable[[], _Result]) -> None:
        """Begin at once."""
        self._results: List[_Result] = []
        self._failure: Optional[BaseException] = None
        self._running = _thread.allocate_lock()
        self._running.acquire()
        try:
            _thread.start_new_thread(self._run, (call,))
        except RuntimeError:
            self._run(call)  # no memory for a thread: now, then

    def take(self, *, seconds: float = -1) -> _Result:
        """Wait for it, for so long at most: what it returned, or raise what it raised.

        LateError where it goes on; nobody ends it, and the end of the process does not wait for it.
        """
        if not self._running.acquire(timeout=seconds):
            raise LateError
        self._running.release()
        if self._failure is not None:
            raise self._failure
        return self._results[0]

    def _run(self, call: Callable[[], _Result]) -> None:
        try:
            self._results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again by `take`
            self._failure = error
        finally:
            self._running.release()


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

    others = [Later(run) for _ in range(min(threads, len(left)) - 1)]
    run()
    for other in others:
        other.take()
    if failures:
        raise failures[0]
    return results
