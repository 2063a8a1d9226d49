"""What a person sees while compilers run: one living line, or a line now and then."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Optional, TextIO

_ON_TERMINAL = 0.5
_ELSEWHERE = 5.0
"""Seconds between lines."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    done: int
    total: int
    seconds: float
    left: float
    """Estimated seconds to the end."""


def progress_line(progress: Progress) -> str:
    """`compiling: 12 of 49 steps done, 0:45 passed, about 1:10 left`."""
    return (
        f"compiling: {progress.done} of {progress.total} steps done, "
        f"{clock(progress.seconds)} passed, about {clock(progress.left)} left"
    )


def clock(seconds: float) -> str:
    """`1:05`."""
    whole = max(int(seconds + 0.5), 0)
    return f"{whole // 60}:{whole % 60:02d}"


class ProgressPrinter:
    """Writes progress lines to a stream, not more often than a reader wants."""

    def __init__(self, stream: TextIO) -> None:
        """A terminal gets one line that is written over."""
        self._stream = stream
        self._terminal = stream.isatty()
        self._next: Optional[float] = None
        self._open = False

    def __call__(self, progress: Progress) -> None:
        """Print it if it is time, or if all is done."""
        now = time.monotonic()
        done = progress.done >= progress.total
        if self._next is not None and now < self._next and not done:
            return
        self._next = now + (_ON_TERMINAL if self._terminal else _ELSEWHERE)
        start, end = ("\r\x1b[K", "\n" if done else "") if self._terminal else ("", "\n")
        self._stream.write(f"{start}{progress_line(progress)}{end}")
        self._stream.flush()
        self._open = self._terminal and not done

    def close(self) -> None:
        """Leave the terminal's line, so that what comes next starts on its own."""
        if self._open:
            self._stream.write("\n")
            self._open = False
