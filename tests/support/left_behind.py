"""Run a command and tell what it left behind: every descendant, whatever session it is in.

    ended = run_adopting(["run.sh", "app"], environ=…, input="…")
    ended.left     # command lines of what still runs 2 s after the command's end; they are ended

A process of its own adopts all orphans of the command (prctl(2), PR_SET_CHILD_SUBREAPER), so that
no daemon escapes it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE = 2.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Negative: the signal that ended it."""
    out: str
    err: str
    seconds: float
    """From its start to its own end."""
    left: tuple[str, ...]


class Adopted:
    """A command that runs below a process that adopts its orphans."""

    def __init__(
        self, command: Sequence[str], *, environ: Mapping[str, str], cwd: Path, close: str = ""
    ) -> None:
        """`close`: numbers of standard streams that the command does not have, e.g. `02`."""
        self._told = cwd / f"left-behind-{time.monotonic_ns()}.json"
        spec = {"command": list(command), "environ": dict(environ), "told": str(self._told)}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, json.dumps({**spec, "close": close})],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def command_pid(self) -> int:
        """Waits until the command is started."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            if children := path.read_text().split():
                return int(children[0])
            time.sleep(0.005)
        raise TimeoutError

    def wait(self, given: str = "", *, timeout: float = 120) -> Ended:
        try:
            out, err = self._process.communicate(given, timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.terminate()  # it ends all of them
            out, err = self._process.communicate(timeout=10)
        told = json.loads(self._told.read_text())
        self._told.unlink()
        return Ended(told["code"], out, err, told["seconds"], tuple(told["left"]))


def run_adopting(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    cwd: Path,
    given: str = "",
    close: str = "",
    timeout: float = 120,
) -> Ended:
    return Adopted(command, environ=environ, cwd=cwd, close=close).wait(given, timeout=timeout)


def _main() -> None:
    import ctypes  # noqa: PLC0415 - the process that adopts alone needs it
    import signal  # noqa: PLC0415

    spec = json.loads(sys.argv[1])
    ctypes.CDLL(None).prctl(36, ctypes.c_ulong(1), *[ctypes.c_ulong(0)] * 3)
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        for number in spec["close"]:
            os.close(int(number))
        try:
            os.execve(spec["command"][0], spec["command"], spec["environ"])  # noqa: S606
        finally:
            os._exit(127)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = _wait_for(pid)
    seconds = time.monotonic() - began
    for number in (0, 1, 2):
        os.close(number)
    left = _end_children(time.monotonic() + PATIENCE)
    told = {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "left": left}
    Path(spec["told"]).write_text(json.dumps(told))


def _wait_for(pid: int) -> int:
    """Buries all that ends meanwhile, as an init does."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return status


def _end_children(patient_until: float) -> list[str]:
    while _bury() and time.monotonic() < patient_until:
        time.sleep(0.01)
    left = [_name_of(pid) for pid in _children()]
    while _bury():
        for pid in _children():
            os.kill(pid, 9)
        time.sleep(0.01)
    return left


def _bury() -> bool:
    """Whether any child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children() -> list[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in path.read_text().split()]


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()[:200]
    except OSError:
        return str(pid)


if __name__ == "__main__":
    _main()
