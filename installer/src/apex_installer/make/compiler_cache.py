"""sccache in front of the compilers of one build: a server of its own, which ends with the build.

sccache takes nvcc's line apart and looks each step up by what really went into it, so a line that
only one architecture sees is never missed. Where its objects are kept, and whether this build may
write there, its own variables say (`SCCACHE_*`): a folder, redis, S3, WebDAV, read-only.

Sources: sccache's docs/Configuration.md; for the newest CUDA its issue 2862.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, Mapping, Sequence, Tuple

from apex_installer.make.graph import CPP, CUDA
from apex_installer.make.process import Child, ask

NEWEST_CUDA = (13, 2)
"""From 13.3 on nvcc describes its steps in other words, which sccache up to 0.17 does not read."""
_PATIENCE = 20.0
"""Seconds until the server must listen: one that cannot reach its store says so sooner."""
_TICK = 0.02


@dataclass(frozen=True)
class CompilerCache:
    """What goes before which commands, and the variables that they need."""

    prefixes: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    """By a node's kind."""
    environ: Mapping[str, str] = field(default_factory=dict)
    account: Dict[str, Any] = field(default_factory=dict)
    """For the build's account: why it was not used, or hits and misses, once it has ended."""


def covered_kinds(cuda: str) -> Tuple[str, ...]:
    """What may be cached with this CUDA; nvcc from 13.3 on runs as it is. Pure."""
    numbers = tuple(int(part) for part in cuda.split(".")[:2] if part.isdigit())
    return (CPP, CUDA) if numbers and numbers <= NEWEST_CUDA else (CPP,)


@contextlib.contextmanager
def run_compiler_cache(
    program: str, *, cuda: str, folders: Sequence[str], environ: Mapping[str, str]
) -> Iterator[CompilerCache]:
    """A server for the time of the block; one that cannot start leaves the compilers as they are.

    `folders` are those whose place says nothing of what is compiled: the source, torch's packages.
    """
    place = tempfile.mkdtemp(prefix="sccache-")
    # A socket's name has 107 bytes at most, and work folders are deep (unix(7)).
    mine = {"SCCACHE_SERVER_UDS": os.path.join(place, "socket")}
    server = {
        **environ,
        **mine,
        "SCCACHE_START_SERVER": "1",
        "SCCACHE_NO_DAEMON": "1",
        "SCCACHE_IDLE_TIMEOUT": "0",
        "SCCACHE_BASEDIRS": os.pathsep.join(folders),
    }
    words = os.path.join(place, "words")
    cache = CompilerCache()
    try:
        child = Child([program], environ=server, folder=place, words=words)
        try:
            if _listens(child, mine["SCCACHE_SERVER_UDS"]):
                prefixes = dict.fromkeys(covered_kinds(cuda), (program,))
                cache = CompilerCache(prefixes, mine)
            else:
                cache.account["not used"] = _last_line(words)
            yield cache
        finally:
            if cache.prefixes:
                cache.account.update(_count(program, {**environ, **mine}))
                ask([program, "--stop-server"], environ={**environ, **mine})
            child.end()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _listens(child: Child, socket: str) -> bool:
    until = time.monotonic() + _PATIENCE
    while not os.path.exists(socket):
        if child.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(_TICK)
    return True


def _count(program: str, environ: Mapping[str, str]) -> Dict[str, Any]:
    """Hits and misses by language, as the server counted them."""
    said = ask([program, "--show-stats", "--stats-format", "json"], environ=environ, errors=False)
    try:
        stats = json.loads(said)["stats"]
        return {
            "hits": stats["cache_hits"]["counts"],
            "misses": stats["cache_misses"]["counts"],
            "errors": stats["cache_errors"]["counts"],
        }
    except (ValueError, LookupError, TypeError):
        return {"counts": "none: the server did not answer"}


def _last_line(words: str) -> str:
    with open(words, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return lines[-1] if lines else "it ended without a word"
