"""Kill a process at one chosen system call, with strace.

strace delivers SIGKILL on entering a call, before the call is done: killing at each of n
state-changing calls in turn shows every state after 0, 1, … n - 1 of them; the run that is not
killed shows the last.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MARK = "/put-driver-starts-here"
CHANGING = (
    "open,openat,creat,write,pwrite64,writev,pwritev,rename,renameat,renameat2,mkdir,mkdirat,rmdir,"
    "unlink,unlinkat,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,chown,fchown,lchown,"
    "fchownat,utimensat,truncate,ftruncate,copy_file_range,sendfile"
)
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")


@dataclass(frozen=True)
class Call:
    """The `ordinal`-th call of this name in the whole process."""

    name: str
    ordinal: int
    text: str


def find_calls(
    strace: str, command: Sequence[str], *, log: Path, environ: Mapping[str, str]
) -> list[Call]:
    """Run the command whole; every state-changing call after the mark."""
    trace = f"trace={CHANGING},access,faccessat,faccessat2"
    subprocess.run(
        [strace, "-f", "-qq", "-o", str(log), "-e", trace, *command],
        check=True,
        capture_output=True,
        env=dict(environ),
    )
    counts: Counter[str] = Counter()
    calls, started = [], False
    for line in log.read_text().splitlines():
        match = _CALL.match(line)
        if not match:
            continue
        name, rest = match.groups()
        counts[name] += 1
        started = started or MARK in rest
        if started and changes_state(name, rest):
            calls.append(Call(name, counts[name], rest[:120]))
    assert calls, "nothing was traced"
    return calls


def changes_state(name: str, arguments: str) -> bool:
    """Opening counts where it creates; writing where it is not to the standard streams."""
    if name in ("access", "faccessat", "faccessat2"):
        return False
    if name in ("open", "openat"):
        return "O_CREAT" in arguments or "O_TRUNC" in arguments
    if name in ("write", "writev"):
        return not re.match(r"[012],", arguments)
    return True


def run_killed(
    strace: str, command: Sequence[str], call: Call, *, log: Path, environ: Mapping[str, str]
) -> None:
    """Run the command and have it killed on entering this call."""
    inject = f"inject={call.name}:signal=SIGKILL:when={call.ordinal}"
    done = subprocess.run(
        [
            *(strace, "-f", "-qq", "-o", str(log), "-e", f"trace={call.name}", "-e", inject),
            *command,
        ],
        check=False,
        capture_output=True,
        env=dict(environ),
    )
    assert "killed by SIGKILL" in log.read_text(), f"{call} was not reached: {done.stderr!r}"
