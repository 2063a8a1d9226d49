"""One child process with all that it starts: its own session, its resource use, its end.

nvcc starts cudafe++, cicc, ptxas and gcc below itself. They share nvcc's process group, so ending
the group ends them all; the private TMPDIR that they wrote to is the caller's to remove.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Optional, Sequence

from apex_installer.errors import DeadlineError


@dataclass(frozen=True)
class Ended:
    """How a child ended; times are of the whole tree that it waited for."""

    status: int
    """Exit status; negative: the signal that ended it."""
    cpu_seconds: float
    peak_bytes: int
    """Largest resident set of any one process in the tree."""


class Child:
    """A started command in its own session, its words going to a file."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environ: Mapping[str, str],
        folder: str,
        words: str,
        nice: int = 0,
    ) -> None:
        """Start it; OSError where the program cannot be started."""
        with open(words, "wb") as file:
            self._process = subprocess.Popen(
                list(argv),
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if nice:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, nice)

    def poll(self) -> Optional[Ended]:
        """How it ended, or None while it runs."""
        return self._wait(os.WNOHANG)

    def _wait(self, options: int) -> Optional[Ended]:
        pid, status, usage = os.wait4(self._process.pid, options)
        if not pid:
            return None
        # Popen would else wait for a process that is gone.
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(
            status=self._process.returncode,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=usage.ru_maxrss * 1024,
        )

    def end(self) -> None:
        """Kill the whole tree and wait until it is gone."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._wait(0)
        give_up = time.monotonic() + 5.0
        while _is_group_alive(self._process.pid) and time.monotonic() < give_up:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            time.sleep(0.01)


def wait_for(child: Child, *, ends_at: Optional[float], doing: str) -> int:
    """Its exit status; DeadlineError after `ends_at`. However it is left, the tree is gone."""
    try:
        while True:
            ended = child.poll()
            if ended is not None:
                return ended.status
            if ends_at is not None and time.monotonic() > ends_at:
                raise DeadlineError(f"the time limit ran out while {doing}")
            time.sleep(0.01)
    finally:
        child.end()


def _is_group_alive(group: int) -> bool:
    """Whether any process of the group runs; one that only waits to be buried does not.

    Grandchildren go to init, and a container's init may never bury them (proc(5), `stat`).
    """
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                state, _, pgrp = file.read().rpartition(") ")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(pgrp) == group and state != "Z":
            return True
    return False


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, so that children are ended like on Ctrl-C.

    Only in the main thread, and only where nobody else has said what these signals mean.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    mine = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in mine:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
