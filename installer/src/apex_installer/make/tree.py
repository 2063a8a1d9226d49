"""The processes that a program started, found by a mark in their environment, and their end.

A daemon leaves its group, its session and its parent, but it keeps its environment (proc(5),
`environ`). Only the mark leads to a process: never its group, since the kernel says 0 of all groups
outside this container. Linux only.

This file is also a program of its own, the guard: it waits for the end of the process that started
it, however that came, and then ends what is marked. So it imports none of our modules.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import Dict, List, Set

VARIABLE = "_APEX_INSTALL_TREE"
"""Words, one per tree that a process belongs to: a build in a build belongs to both."""
PATIENCE = 1.5
"""Seconds to wait for what was killed; what hangs in the kernel goes on hanging (proc(5), D)."""
SHORTEST = 16
"""Characters of a mark; a shorter one could be another's."""
_TICK = 0.01
_INIT = 1


def end_marked(mark: str, *, seconds: float = PATIENCE, root: str = "/proc") -> bool:
    """SIGKILL all that bear a mark that begins so, and their children.

    Again and again until two looks in a row find none, for `seconds` at most; whether none runs.
    """
    ends = time.monotonic() + seconds
    looks = 0
    while looks < 2:  # noqa: PLR2004 - one that is being replaced by execve shows no environment
        alive = find_marked(mark, root=root)
        for pid in alive:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        looks = 0 if alive else looks + 1
        if alive and time.monotonic() > ends:
            return False
        time.sleep(_TICK)
    return True


def find_marked(mark: str, *, root: str = "/proc") -> Set[int]:
    """Who runs of them: never init, this process or one above it, nor one that waits to be buried.

    ValueError for a mark that is too short to be anybody's own.
    """
    if len(mark) < SHORTEST:
        raise ValueError(f"{mark!r} is no mark of a tree")
    parents: Dict[int, int] = {}
    found: Set[int] = set()
    for name in filter(str.isdigit, _list(root)):
        with suppress(OSError, ValueError):
            folder = os.path.join(root, name)
            state, parent = _read_stat(folder)
            parents[int(name)] = parent
            if state != "Z" and _is_marked(folder, mark):
                found.add(int(name))
    spared = _spared(parents)
    # First and last: what is below init is everything.
    return _with_children(found - spared, parents) - spared


def _list(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # a /proc that is not there shows nobody


def _is_marked(folder: str, mark: str) -> bool:
    start = f"{VARIABLE}=".encode()
    for line in _read(folder, "environ").split(b"\0"):
        if line.startswith(start):
            words = line[len(start) :].split()
            return any(word.startswith(mark.encode()) for word in words)
    return False


def _with_children(found: Set[int], parents: Dict[int, int]) -> Set[int]:
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found = found | more


def _spared(parents: Dict[int, int]) -> Set[int]:
    """This process, all above it, and init; 0 is a parent outside this container."""
    spared, pid = {0, _INIT}, os.getpid()
    while pid not in spared:
        spared.add(pid)
        pid = parents.get(pid, 0)
    return spared


def _read_stat(folder: str) -> tuple[str, int]:
    """(state, parent); the name before them may hold anything, `)` too."""
    state, parent = _read(folder, "stat").rpartition(b") ")[2].split()[:2]
    return state.decode(), int(parent)


def _read(folder: str, name: str) -> bytes:
    with open(os.path.join(folder, name), "rb") as file:
        return file.read()


def guard(mark: str) -> None:
    """Wait until stdin ends, as it does with the process that holds its other end."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    end_marked(mark)


if __name__ == "__main__":
    guard(sys.argv[1])
