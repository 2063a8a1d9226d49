"""A budget of wall-clock time for a whole run: it bounds the sum, not each single wait."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Callable, Iterator

from apex_installer.errors import DeadlineError


class Deadline:
    """A moment on the monotonic clock, which no clock change moves."""

    def __init__(
        self,
        seconds: float,
        *,
        flag: str = "--deadline",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seconds` from now; `flag` is what makes it longer, `clock` is a seam for tests."""
        self.seconds = seconds
        self._flag = flag
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds left; zero or less when it is over."""
        return self._end - self._clock()

    @contextmanager
    def narrowed(self, seconds: float) -> Iterator[None]:
        """Within the block, no more than `seconds` are left: for what there is another way to."""
        whole, end = self.seconds, self._end
        self._end = min(end, self._clock() + seconds)
        self.seconds = min(whole, seconds)
        try:
            yield
        finally:
            self.seconds, self._end = whole, end

    def check(self, doing: str) -> None:
        """Raise DeadlineError, naming what was being done, when no time is left."""
        if self.remaining() <= 0:
            raise DeadlineError(
                f"{doing}: the time budget of {self.seconds:g} s is used up; "
                f"a longer one is {self._flag} SECONDS"
            )
