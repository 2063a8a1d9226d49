"""One fault of a pod, and what its start must be all the same.

fault.run(folder, kits) -> Told: outcome, causes, seconds, and which promises were broken
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import packaging

from support.carrying import pack_carrying, small_data
from support.fake_build import prepare_build
from support.machine import farm_cache
from support.start_pod import SAID, STATUS, StartPod
from support.tiny_pod import Kit, TinyPod, make_kit
from support.toolkits import find_or_compose_toolkit
from support.torch_environments import torch_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.start_pod import Start
    from support.torch_environments import TorchEnvironment

GRACE = 3.0
"""Seconds after the budget in force by which the app has started."""
NO_REPORT = ""
"""The outcome where the installer did not come to leave a report."""
TINY, CARRYING, BUILDING, REAL = "tiny", "carrying", "building", "real"


class Kits:
    """What pods are made of, each part made when the first asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def tiny(self) -> Kit:
        """An installer that carries nothing: where no wheel comes, there is none."""
        return make_kit(self.folder / "tiny")

    @cached_property
    def carrying(self) -> Kit:
        """One that carries a Python-only wheel, and knows how to compile."""
        zipapp = pack_carrying(self.folder, small_data(self.folder / "data"))
        return replace(self.tiny, zipapp=zipapp)

    @cached_property
    def torch(self) -> TorchEnvironment:
        return torch_environment("2.11.0", cache=farm_cache())

    @cached_property
    def cuda(self) -> Path:
        return find_or_compose_toolkit("13.0", torch=self.torch, cache=farm_cache())

    @property
    def real_cache(self) -> Path:
        """Where the compile of one row leaves its result for another's."""
        return self.folder / "real-cache"


@dataclass(frozen=True)
class Told:
    """How a start went with a fault."""

    outcome: str
    causes: tuple[str, ...]
    seconds: float
    budget: float
    """What the flags allow; the app is to start GRACE later at most."""
    broken: tuple[str, ...]
    """Promises that were not kept, in words."""
    said: str
    """All that came on stderr."""

    @property
    def last_word(self) -> str:
        """The outcome: as the report tells it, else as the last line does, else none was told."""
        lines = [line for line in self.said.splitlines() if line.startswith("apex: ")]
        found = re.match(r"apex: (already|wheel|compiled|python-only|none)\b", (lines or [""])[-1])
        return self.outcome or (found.group(1) if found else NO_REPORT)


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    group: str
    spoil: Callable[[StartPod], object]
    outcome: str | tuple[str, ...]
    """What the report must tell, or one of these."""
    kit: str = TINY
    """`tiny`: nothing below `wheel`. `carrying`: python-only is the last resort. `building`: also
    a compile by a toolkit of shell scripts. `real`: also one by a real one, with the real torch."""
    sample: bool = False
    """Whether it belongs to the ordinary run."""
    needs: tuple[str, ...] = ()
    """Programs without which it cannot be played; `root`: the rights of the superuser."""
    said: str = ""
    """Words that stderr must hold."""
    silent: bool = False
    """Whether the app's words are not known: it lacks a standard stream."""

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"

    def run(self, folder: Path, kits: Kits) -> Told:
        """Make a pod below `folder`, spoil it, start it."""
        with ExitStack() as stack:
            pod = self._pod(folder, kits, stack)
            self.spoil(pod)
            start = pod.start()
            return Told(
                outcome=start.outcome,
                causes=tuple(start.causes),
                seconds=start.seconds,
                budget=pod.budget,
                broken=tuple(self._broken(start, pod.budget)),
                said=start.err,
            )

    def missing(self) -> str:
        """What it needs and this machine lacks, or nothing."""
        here = {"root"} if os.geteuid() == 0 else set()
        return next(
            (name for name in self.needs if name not in here and not shutil.which(name)), ""
        )

    @property
    def outcomes(self) -> tuple[str, ...]:
        return (self.outcome,) if isinstance(self.outcome, str) else self.outcome

    def _pod(self, folder: Path, kits: Kits, stack: ExitStack) -> StartPod:
        pod = StartPod(TinyPod(folder, kits.tiny if self.kit == TINY else kits.carrying), stack)
        if self.kit != TINY:
            shutil.copytree(Path(packaging.__file__).parent, pod.target / "packaging")
        if self.kit == BUILDING:
            prepare_build(pod)
        if self.kit == REAL:
            from support.faults_real import prepare_real  # noqa: PLC0415 - it imports this module

            prepare_real(pod, kits)
        return pod

    def _broken(self, start: Start, budget: float) -> list[str]:
        promises = {
            f"the app said {start.out!r}": self.silent or start.out == SAID,
            f"exit status {start.code}": start.code == STATUS,
            f"{start.seconds:.1f} s, {budget:g} + {GRACE:g} allowed": start.seconds
            < budget + GRACE,
            f"left behind: {', '.join(start.left)}": not start.left,
            f"outcome {start.outcome or 'not told'}": start.outcome in self.outcomes,
            f"{self.said!r} was not said": self.said in start.err,
        }
        return [words for words, kept in promises.items() if not kept]
