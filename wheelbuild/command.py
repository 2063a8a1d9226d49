"""Runs one external program: logged so that it can be pasted, its process group ended after it."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wheelbuild.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """How a program ended."""

    arguments: tuple[str, ...]
    code: int
    output: str
    """stdout alone where it was asked for apart, else stdout and stderr together."""
    seconds: float


def run_command(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    log: Path | None = None,
    check: bool = True,
    time_limit: float | None = None,
) -> Ran:
    """Run it to its end, stderr apart in `log` (appended) or else among the output.

    CommandError names the command, its code, the last line that it said and the log.
    """
    words = tuple(os.fspath(word) for word in arguments)
    logger.debug("+ %s", shlex.join(words))
    started = time.monotonic()
    with _stderr(log) as stderr:
        code, output = _communicate(words, cwd, environ, stderr, time_limit)
    ran = Ran(arguments=words, code=code, output=output, seconds=time.monotonic() - started)
    logger.debug("  %s: exit %d after %.1f s", Path(words[0]).name, code, ran.seconds)
    if check and code:
        raise CommandError(_complaint(ran, log))
    return ran


@contextlib.contextmanager
def _stderr(log: Path | None) -> Iterator[int]:
    if log is None:
        yield subprocess.STDOUT
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        yield stream.fileno()


def _communicate(
    words: tuple[str, ...],
    cwd: Path | None,
    environ: Mapping[str, str] | None,
    stderr: int,
    time_limit: float | None,
) -> tuple[int, str]:
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
    with process:
        try:
            output, _ = process.communicate(timeout=time_limit)
        except subprocess.TimeoutExpired as error:
            _end(process)
            raise CommandError(
                f"{Path(words[0]).name} was ended: not done after {time_limit:.0f} s"
            ) from error
        except BaseException:
            # Ctrl-C included: a compile that nobody waits for must not go on.
            _end(process)
            raise
    return process.returncode, output


def _end(process: subprocess.Popen[str]) -> None:
    """The whole group: a front end's compilers are its children's children."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


def _complaint(ran: Ran, log: Path | None) -> str:
    said = ran.output
    if log is not None and log.is_file():
        said = ran.output + log.read_text(encoding="utf-8", errors="replace")[-4000:]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = f": {lines[-1]}" if lines else ""
    where = f" (log: {log})" if log else ""
    return f"{Path(ran.arguments[0]).name} ended with {ran.code}{last}{where}"
