"""One child process with all that it starts: its own session, its resource use, its end.

nvcc starts cudafe++, cicc, ptxas and gcc below itself, and a wrapper around it may start a daemon.
All bear a mark in their environment, by which they are found and ended; a guard does it where we
were killed ourselves. The private TMPDIR that they wrote to is the caller's to remove.
"""

from __future__ import annotations

import atexit
import contextlib
import inspect
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, Optional, Sequence

from apex_installer.errors import DeadlineError
from apex_installer.make import tree as guard_program
from apex_installer.make.tree import PATIENCE, VARIABLE, end_marked

_TICK = 0.01
ASK_SECONDS = 10.0
"""For an answer that takes 0.01 s, and longer from a volume that is slow."""
_guards: List[subprocess.Popen[bytes]] = []
_numbers = itertools.count()
_MARK = f"{os.urandom(16).hex()}-"
"""All that this process starts bears it; a number follows, one per child."""


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
        tree: str = "",
        errors: bool = True,
    ) -> None:
        """Start it, in a tree of `new_tree` if one is named; OSError where it cannot be started.

        `errors`: whether what it says on stderr goes to the words too, or nowhere.
        """
        _start_guard()
        self._mark = f"{tree or _MARK}{next(_numbers)};"
        with open(words, "wb") as file:
            self._process = subprocess.Popen(
                list(argv),
                cwd=folder,
                env={**environ, VARIABLE: f"{os.environ.get(VARIABLE, '')} {self._mark}"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
                start_new_session=True,
            )
        if nice:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, nice)

    def poll(self) -> Optional[Ended]:
        """How it ended, or None while it runs."""
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
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
        """Kill the whole tree, daemons too, and wait until it is gone, for 2 s at most.

        What hangs in the kernel is left.
        """
        end_tree(self._mark, children=(self,))

    def kill(self) -> None:
        """SIGKILL it and its process group; nothing where it has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def bury(self, *, until: float) -> None:
        """Wait for its end, which `kill` brought; nobody waits for it any more after `until`."""
        while self._process.returncode is None and self.poll() is None:
            if time.monotonic() > until:
                self._process.returncode = -signal.SIGKILL
            time.sleep(_TICK)


def new_tree() -> str:
    """A name for children that belong together, for `end_tree`."""
    return f"{_MARK}{next(_numbers)}-"


def end_tree(tree: str, *, children: Sequence[Child]) -> None:
    """End the children that run, and what others of the tree have left behind: their daemons."""
    until = time.monotonic() + PATIENCE
    # First whole families: whose parent is dead is found by its own mark alone.
    end_marked(tree)
    for child in children:
        child.kill()
    for child in children:
        child.bury(until=until)


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


def ask(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    errors: bool = True,
    seconds: float = ASK_SECONDS,
) -> str:
    """What a program says; nothing where it cannot be started or does not answer in time.

    What it leaves running is ended; with `errors` its stderr is part of the answer.
    """
    import tempfile  # noqa: PLC0415 - many who start a child have a folder of their own

    ends_at = time.monotonic() + seconds
    try:
        with tempfile.TemporaryDirectory(prefix="apex-ask-") as folder:
            words = os.path.join(folder, "words")
            child = Child(argv, environ=environ, folder=os.curdir, words=words, errors=errors)
            wait_for(child, ends_at=ends_at, doing=f"{argv[0]} was asked")
            with open(words, encoding="utf-8", errors="replace") as file:
                return file.read()
    except (OSError, DeadlineError):
        return ""


def _start_guard() -> None:
    """Once per process: it ends our children's trees where SIGKILL keeps us from doing so."""
    if _guards:
        return
    with contextlib.suppress(OSError):
        _guards.append(
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", inspect.getsource(guard_program), _MARK],
                cwd="/",
                stdin=subprocess.PIPE,  # its end is our own
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
        atexit.register(_dismiss_guard)


def _dismiss_guard() -> None:
    for guard in _guards:
        if guard.stdin is not None:
            guard.stdin.close()
        guard.wait()


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
