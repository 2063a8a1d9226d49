"""The end of a run that hangs where no deadline reaches: in a driver, on a volume that is gone.

A deadline is asked between two steps; a step that never comes back asks nothing. So another thread
counts too, and ends the process. What it would have left is what any kill leaves, and the next
start puts that right.
"""

from __future__ import annotations

import _thread
import os

from apex_installer.closing import Closing
from apex_installer.errors import EXIT_NOTHING_GOOD_ENOUGH

GRACE = 2.0
"""Seconds after both budgets: 3 are promised, and a Python takes some to start."""


class Watchdog(Closing):
    """From its making to the end of its `with`, or the process ends with exit code 3."""

    def __init__(self, seconds: float) -> None:
        """`seconds` are all budgets that are in force together."""
        self._seconds = seconds
        self._ended = _thread.allocate_lock()
        self._ended.acquire()
        try:
            _thread.start_new_thread(self._watch, ())
        except RuntimeError:
            return  # no memory for one: then nobody watches

    def close(self) -> None:
        """All went well, or failed as it should."""
        self._ended.release()

    def _watch(self) -> None:
        if self._ended.acquire(timeout=min(self._seconds + GRACE, _thread.TIMEOUT_MAX)):
            return
        line = f"apex: none (deadline: a driver or a disk hangs: given up after {self._seconds:g} s"
        try:
            import select  # noqa: PLC0415 - only what hangs pays for it

            # A pipe that nobody reads may be what hangs.
            if select.select([], [2], [], 0)[1]:
                os.write(2, f"{line} and {GRACE:g} s more)\n".encode())
        finally:
            os._exit(EXIT_NOTHING_GOOD_ENOUGH)
