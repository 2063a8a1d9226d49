"""Compiles that failed, by key: the next start does not fail the same way for the same price.

    <cache>/failures/<key>.json

A new recipe, toolkit or torch is a new key, and is tried at once.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Optional

from apex_installer.errors import InstallError
from apex_installer.get.whole import write_whole
from apex_installer.values import asdict, dataclass

if TYPE_CHECKING:
    from apex_installer.get.cache import Cache

FOLDER = "failures"
FIRST_WAIT = 600.0
"""Seconds after the first failure; twice as long after each further one."""
LONGEST_WAIT = 86_400.0
_MOST_DOUBLINGS = 10
DEADLINE = "deadline"
"""The cause word of a compile that only took too long."""


@dataclass(frozen=True)
class Failure:
    """What is known of the compiles of one key, none of which came to its end."""

    count: int
    at: float
    """Of the last one: seconds since 1970, by the clock of the pod that it failed on."""
    budget: float
    """Seconds that it had."""
    cause: str
    """Its cause word."""
    error: str
    """Its line."""


def failure_path(cache: Cache, key: str) -> Optional[str]:
    """Where it is kept; None without a cache to be trusted."""
    place = cache.place(FOLDER)
    return os.path.join(place, f"{key}.json") if place else None


def next_try(failure: Failure) -> float:
    """Seconds since 1970: 10 minutes after the first failure, doubled up to a day."""
    doublings = min(failure.count - 1, _MOST_DOUBLINGS)
    return failure.at + min(FIRST_WAIT * 2.0**doublings, LONGEST_WAIT)


def is_too_early(failure: Failure, *, now: float, budget: float) -> bool:
    """Whether to leave a compile with `budget` seconds out this time.

    More time than the last one had is a reason to try again; a failure that lies in the future is
    no reason not to, since some clock was wrong.
    """
    if failure.cause == DEADLINE and budget > failure.budget:
        return False
    return failure.at <= now < next_try(failure)


def one_more(
    before: Optional[Failure], *, at: float, budget: float, error: InstallError
) -> Failure:
    """What is known after this failure, too."""
    count = before.count + 1 if before else 1
    return Failure(count, at, budget, error.cause, " ".join(str(error).split()))


def describe(failure: Failure, *, path: str) -> str:
    """One line: why not now, when again, and what to do to have it tried at once."""
    again = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(next_try(failure)))
    times = "once" if failure.count == 1 else f"{failure.count} times"
    return (
        f"was compiled in vain {times}, is tried again after {again}, at once after rm {path}; "
        f"it was: {failure.error}"
    )


def read_failure(path: str) -> Optional[Failure]:
    """None where there was none, or none that can be read."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        return Failure(
            count=max(int(data["count"]), 1),
            at=float(data["at"]),
            budget=float(data["budget"]),
            cause=str(data["cause"]),
            error=str(data["error"]),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def keep_failure(path: str, failure: Failure) -> None:
    """OSError passes."""
    write_whole(path, json.dumps(asdict(failure)).encode())
