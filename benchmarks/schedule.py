"""What a build's timeline would take on other numbers of cores, by list scheduling. Pure.

A compiler call takes as many cores as it kept busy, but not more than there are; the longest call
that may start comes first, as the farm does it. A timeline does not say what waits for what, so:
C++ waits for the precompiled headers, a link for every object of its module. CPU-seconds are those
of the measured run: where its cores were two threads of one, fewer cores would do better than this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Call:
    """One compiler call."""

    kind: str
    module: str
    cpu_seconds: float
    width: int
    """Cores that it can keep busy."""

    def seconds(self, cores: int) -> float:
        """On that many, if it has as many of them as it can use."""
        return self.cpu_seconds / min(self.width, cores)


def read_calls(timeline: Sequence[Mapping[str, Any]]) -> list[Call]:
    """From a build's account, its `timeline`."""
    return [
        Call(
            kind=one["kind"],
            module=one["module"],
            cpu_seconds=one["cpu_seconds"],
            width=max(1, round(one["cpu_seconds"] / max(one["end"] - one["start"], 1e-3))),
        )
        for one in timeline
    ]


def simulate(calls: Sequence[Call], cores: int) -> float:
    """Seconds until the last one has ended."""
    waiting = sorted(calls, key=lambda call: -call.seconds(cores))
    running: list[tuple[float, Call]] = []
    now, free = 0.0, cores
    while waiting or running:
        for call in list(waiting):
            unfinished = [*waiting, *(one for _, one in running)]
            if min(call.width, cores) <= free and _may_start(call, unfinished):
                waiting.remove(call)
                running.append((now + call.seconds(cores), call))
                free -= min(call.width, cores)
        now = min(end for end, _ in running)
        ended = [one for one in running if one[0] <= now]
        running = [one for one in running if one[0] > now]
        free += sum(min(call.width, cores) for _, call in ended)
    return now


def _may_start(call: Call, unfinished: Sequence[Call]) -> bool:
    if call.kind == "cpp":
        return not any(one.kind == "header" for one in unfinished)
    if call.kind == "link":
        return not any(one.module == call.module and one.kind != "link" for one in unfinished)
    return True


def simulate_all(
    timeline: Sequence[Mapping[str, Any]], run: Mapping[str, Any], cores: Sequence[int]
) -> dict[str, float]:
    """Wall seconds by number of cores: what is not compiling takes what it took in `run`. Pure."""
    calls = read_calls(timeline)
    around = run["seconds"] - run["compile_seconds"]
    return {str(one): round(around + simulate(calls, one), 1) for one in cores}
