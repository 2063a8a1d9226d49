"""Runs one external program: logged so that it can be pasted, its process group ended after it."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from weakref import WeakSet

from wheelbuild.errors import CommandError
from wheelbuild.telling import say, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

logger = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds for the last words of a program that has ended."""
_lock = threading.Lock()
_over = threading.Event()
_running: WeakSet[subprocess.Popen[str]] = WeakSet()


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """How a program ended."""

    arguments: tuple[str, ...]
    code: int
    """Exit status; negative: the signal that ended it."""
    output: str
    errors: str
    """What it said on stderr; empty where that was shown instead of kept."""
    seconds: float

    @property
    def last_line(self) -> str:
        """What it said last, on stderr if it said anything there."""
        lines = [line.strip() for line in (self.errors.strip() or self.output).splitlines()]
        return next((line for line in reversed(lines) if line), "it said nothing")


def run_command(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    check: bool = True,
    show: bool = False,
    time_limit: float | None = None,
) -> Ran:
    """Run it to its end, without stdin. With `show`, its stderr is ours while it runs.

    `time_limit` in seconds. CommandError names the program, its exit status and its last line.
    """
    words = tuple(os.fspath(word) for word in arguments)
    logger.debug("+ %s", shlex.join(words))
    started = time.monotonic()
    with shown() if show else nullcontext(subprocess.PIPE) as stderr:
        process = _start(words, cwd=cwd, environ=environ, stderr=stderr)
        output, errors = _communicate(process, time_limit)
    ran = Ran(
        arguments=words,
        code=process.returncode,
        output=output,
        errors=errors or "",
        seconds=time.monotonic() - started,
    )
    logger.debug("  %s: exit %d after %.1f s", Path(words[0]).name, ran.code, ran.seconds)
    if check and ran.code:
        raise CommandError(f"{Path(words[0]).name} ended with {ran.code}: {ran.last_line}")
    return ran


def run_streamed(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    log: Path,
    time_limit: float | None = None,
) -> Ran:
    """Run it to its end; all that it says goes to our stderr, as it comes, and to the file `log`.

    Any exit status is returned; CommandError where it cannot be started or runs out of its time.
    """
    words = tuple(os.fspath(word) for word in arguments)
    logger.debug("+ %s", shlex.join(words))
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = _start(words, cwd=cwd, environ=environ, stderr=subprocess.STDOUT)
        copy = copy_context().run
        copier = threading.Thread(target=copy, args=(_copy, process, file), daemon=True)
        copier.start()
        _wait(process, time_limit)
        copier.join(timeout=_PATIENCE)
    return Ran(
        arguments=words,
        code=process.returncode,
        output=log.read_text(encoding="utf-8", errors="replace"),
        errors="",
        seconds=time.monotonic() - started,
    )


def _start(
    words: tuple[str, ...],
    *,
    cwd: Path | None,
    environ: Mapping[str, str] | None,
    stderr: int | None,
) -> subprocess.Popen[str]:
    """In a session of its own, without stdin; CommandError where it cannot be started."""
    with _lock:
        if _over.is_set():
            raise CommandError(f"{words[0]} was not started: the run is being ended")
        try:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(f"{words[0]} cannot be started: {error.strerror}") from error
        _running.add(process)
    return process


def end_commands() -> None:
    """End what other threads have started, and let them start no more: this process is ending."""
    with _lock:
        _over.set()
    for process in list(_running):
        if process.poll() is None:
            _end(process)


def _copy(process: subprocess.Popen[str], file: IO[str]) -> None:
    with process.stdout or nullcontext(()) as stream:
        for line in stream:
            say(line)
            file.write(line)
            file.flush()


def _wait(process: subprocess.Popen[str], time_limit: float | None) -> None:
    with _ended_unless_done(process, time_limit):
        process.wait(timeout=time_limit)


def _communicate(
    process: subprocess.Popen[str], time_limit: float | None
) -> tuple[str, str | None]:
    with process, _ended_unless_done(process, time_limit):
        return process.communicate(timeout=time_limit)


@contextlib.contextmanager
def _ended_unless_done(process: subprocess.Popen[str], time_limit: float | None) -> Iterator[None]:
    try:
        yield
    except subprocess.TimeoutExpired as error:
        _end(process)
        name = Path(str(process.args[0])).name  # type: ignore[index] # we gave a tuple
        raise CommandError(f"{name} was ended: not done after {time_limit:.0f} s") from error
    except BaseException:
        # Ctrl-C included: a compile that nobody waits for must not go on.
        _end(process)
        raise


def _end(process: subprocess.Popen[str]) -> None:
    """The whole group: a front end's compilers are its children's children."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
