"""kill -9 of the farm at any moment, then `run` again: nothing twice, nothing half, little anew."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from apex_installer.model.entry import Entry
from support.quick_farm import QuickFarm
from wheelbuild.index.pages import render

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.compile]

SEED = 6
SOAK_ROUNDS = 240
SOAK_PARTS = 12
"""So that a machine of many cores can take them side by side (`-n 12`)."""
FURTHER = "3.12" if sys.version_info[:2] != (3, 12) else "3.11"


@pytest.fixture(scope="module")
def farm(
    tmp_path_factory: pytest.TempPathFactory,
    requires_tool: Callable[[str], str],
    requires_python: Callable[[str], str],
) -> QuickFarm:
    requires_tool("gcc")
    tags = (f"cp{sys.version_info[0]}{sys.version_info[1]}", f"cp{FURTHER.replace('.', '')}")
    pythons = dict(zip(tags, (sys.executable, requires_python(FURTHER)), strict=True))
    return QuickFarm(tmp_path_factory.mktemp("farm"), pythons).prepare()


@pytest.fixture(scope="module")
def whole(farm: QuickFarm) -> float:
    """Seconds of a run that nobody kills, from nothing."""
    began = time.monotonic()
    assert run(farm) == 0
    took = time.monotonic() - began
    assert Counter(farm.starts()) == Counter(expected(farm))
    check_index(farm)
    return took


def expected(farm: QuickFarm) -> list[str]:
    """Every compiler that a run from nothing starts, once: objects serve both Pythons."""
    links = [f"link {path.name}" for path in farm.folder.glob("*.so")]
    return [*(f"{name}.cpp {name}.cpp.o" for name in ("one", "two", "three")), *links]


def run(farm: QuickFarm) -> int:
    done = subprocess.run(
        farm.command, env=farm.environ, cwd=farm.folder, capture_output=True, text=True, check=False
    )
    sys.stderr.write(done.stderr)  # shown where the test fails
    return done.returncode


def run_killed(farm: QuickFarm, seconds: float) -> bool:
    """Whether it still ran when it was killed."""
    with subprocess.Popen(
        farm.command,
        env=farm.environ,
        cwd=farm.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        time.sleep(seconds)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
    return alive


def check_index(farm: QuickFarm) -> None:
    """One entry a cell, every file whole, every page what the entries make of it."""
    entries = farm.store.entries()
    assert sorted(entry.cell for entry in entries) == sorted(farm.cells)
    for entry in entries:
        assert digest(served(farm, entry)) == entry.sha256
    files = {path.name for path in (farm.folder / "index").rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith(".part")]
    assert {name for name in files if name.endswith(".whl")} == {entry.file for entry in entries}
    assert farm.store.write_pages(render(entries)) == ()


def served(farm: QuickFarm, entry: Entry) -> Path:
    return farm.folder / "index" / "files" / entry.sha256 / entry.file


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kill_once(farm: QuickFarm, seconds: float) -> None:
    """From nothing, killed after so many seconds; sooner where it has ended by then."""
    farm.forget()
    while not run_killed(farm, seconds):
        farm.forget()
        seconds *= 0.8


def check_round(farm: QuickFarm, seconds: float) -> None:
    """One kill after so many seconds, and the run after it."""
    kill_once(farm, seconds)
    published = {entry.cell.partition("-")[0] for entry in farm.store.entries()}
    assert run(farm) == 0
    check_index(farm)
    starts = Counter(farm.starts())
    # Once, and the one job in flight once more: never more than its own steps.
    assert set(starts) == set(expected(farm))
    assert max(starts.values()) <= 2, starts
    for tag in published:
        assert starts[link_of(farm, tag)] == 1, f"{tag} was published and built again"
    again = [name for name, count in starts.items() if count > 1]
    in_flight = {name for name in again if name.startswith("link ")}
    assert len(in_flight) <= 1, f"more than one job was built again: {in_flight}"


def link_of(farm: QuickFarm, tag: str) -> str:
    (module,) = farm.folder.glob(f"*.cpython-{tag[2:]}-*.so")
    return f"link {module.name}"


def kill_often(farm: QuickFarm, whole: float, *, rounds: range) -> None:
    """At moments of the run spread evenly and shaken at random.

    `rounds` picks some of them: all of `range(N)` are the N parts of a run.
    """
    moments = random.Random(SEED)  # noqa: S311 - no secret
    shaken = [(number + moments.random()) / rounds.stop for number in range(rounds.stop)]
    for number in rounds:
        check_round(farm, whole * shaken[number])


def test_a_killed_farm_goes_on(farm: QuickFarm, whole: float) -> None:
    kill_often(farm, whole, rounds=range(10))


@pytest.mark.soak
@pytest.mark.parametrize("part", range(SOAK_PARTS))
def test_a_killed_farm_goes_on_from_two_hundred_moments(
    farm: QuickFarm, whole: float, part: int
) -> None:
    kill_often(farm, whole, rounds=range(part, SOAK_ROUNDS, SOAK_PARTS))


def test_killed_between_the_last_entry_and_its_pages(farm: QuickFarm, whole: float) -> None:
    assert whole > 0
    farm.forget()
    assert run(farm) == 0
    for page in (farm.folder / "index").rglob("index.html"):
        page.unlink()
    assert run(farm) == 0
    check_index(farm)


def test_a_second_run_builds_nothing(farm: QuickFarm, whole: float) -> None:
    assert whole > 0
    farm.forget()
    assert (run(farm), run(farm)) == (0, 0)
    assert Counter(farm.starts()) == Counter(expected(farm))
