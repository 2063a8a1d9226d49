"""Run a command that ends with the one who started it: a farm that is killed leaves no build.

Stand-alone: `python -I tied.py PARENT COMMAND …`, where PARENT is the process id of the farm. The
kernel's request outlives execve (prctl(2), PR_SET_PDEATHSIG), so the command needs to know nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: str, *command: str) -> None:
    """Become the command; ends at once where the parent has gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - no shell is meant


def tie(command: list[str]) -> list[str]:
    """The command line that runs `command` tied to this process."""
    return [sys.executable, "-I", __file__, str(os.getpid()), *command]


if __name__ == "__main__":
    main(*sys.argv[1:])
