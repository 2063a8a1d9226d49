"""Rounds of a crowd: pods at once on a new volume, some killed at random moments."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.crowd import Crowd, Pod

HOLDERS = 0.5
"""How often the holder of the lease is chosen."""
MOMENT = 1.5
"""Seconds at most before a kill: as long as capture and compile take together."""
PATIENCE = 300.0


@dataclass(frozen=True)
class Round:
    """What one round came to."""

    seed: int
    pods: int
    killed: int
    killed_holders: int
    """Of them, those that held the lease."""
    compiles: int
    """Starts of the compiler, the next starts of the killed ones included."""
    results: int
    """Published for this key."""
    survivors_usable: int
    killed_usable_later: int
    half: tuple[str, ...]
    """What in the cache is not whole."""
    seconds: float

    @property
    def faults(self) -> list[str]:
        """Every promise that was broken."""
        found = list(self.half)
        if self.results != 1:
            found.append(f"{self.results} results were published")
        if self.compiles > 1 + self.killed_holders:
            found.append(f"{self.compiles} compiles, {self.killed_holders} holders were killed")
        if self.survivors_usable != self.pods - self.killed:
            found.append(f"{self.survivors_usable} of {self.pods - self.killed} survivors usable")
        if self.killed_usable_later != self.killed:
            found.append(f"{self.killed_usable_later} of {self.killed} usable at the next start")
        return [f"seed {self.seed}: {fault}" for fault in found]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "half": list(self.half), "seconds": round(self.seconds, 2)}


def play_round(crowd: Crowd, *, pods: int, seed: int) -> Round:
    """Start them at once, kill up to a third of them, then start the killed ones again."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    began = time.monotonic()
    crowd.clear()
    started = {f"pod{number}": crowd.start(f"pod{number}") for number in range(pods)}
    killed, holders = _kill(crowd, started, chance.randint(1, pods // 3), chance)
    survivors = [pod for name, pod in started.items() if name not in killed]
    usable = sum(pod.wait(PATIENCE).is_usable for pod in survivors)
    again = [crowd.start(name) for name in killed]
    later = sum(pod.wait(PATIENCE).is_usable and pod.outcome != "python-only" for pod in again)
    return Round(
        seed=seed,
        pods=pods,
        killed=len(killed),
        killed_holders=holders,
        compiles=len(crowd.kit.compiles()),
        results=len(crowd.results()),
        survivors_usable=usable,
        killed_usable_later=later,
        half=tuple(crowd.half()),
        seconds=time.monotonic() - began,
    )


def _kill(
    crowd: Crowd, started: dict[str, Pod], kills: int, chance: random.Random
) -> tuple[list[str], int]:
    """(names of those that were killed in time, how many of them held the lease).

    Every other time it is whoever holds the lease, at a random moment of holding it.
    """
    killed, holders = [], 0
    for _ in range(kills):
        holding = _wait_for_holder(crowd, started) if chance.random() < HOLDERS else set()
        time.sleep(chance.uniform(0, MOMENT))
        alive = _alive(started)
        alive = [name for name in alive if started[name].pid in holding] or alive
        if not alive:
            break
        name = chance.choice(alive)
        started[name].process.kill()
        if started[name].process.wait() != -signal.SIGKILL:
            continue  # it had ended by itself
        killed.append(name)
        holders += started[name].pid in crowd.holders()
    return killed, holders


def _wait_for_holder(crowd: Crowd, started: dict[str, Pod]) -> set[int]:
    while _alive(started):
        holding = {started[name].pid for name in _alive(started)} & set(crowd.holders())
        if holding:
            return holding
        time.sleep(0.01)
    return set()


def _alive(started: dict[str, Pod]) -> list[str]:
    return [name for name, pod in started.items() if pod.process.poll() is None]
