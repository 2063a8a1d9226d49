"""Before a byte is fetched: each thing that is missing is one line with its remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from apex_installer.make import preflight, unpack
from apex_installer.make.needs import Target
from apex_installer.make.preflight import Machine, Plan, machine_faults, plan_faults
from apex_installer.make.width import Limits

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(
    cuda="12.1",
    driver_cuda=(12, 4),
    driver="550.54",
    gcc_max=12,
    fetched=46_500_000,
    has_archives=True,
    cpu_seconds=80,
    width=8,
    budget=600,
)
MACHINE = Machine(Limits(cpus=8, memory=32 << 30), 10 << 30, "/scratch")


def test_a_pod_that_has_all_is_told_nothing() -> None:
    assert plan_faults(PLAN, MACHINE) == ()


@pytest.mark.parametrize(
    ("plan", "machine", "says"),
    [
        (replace(PLAN, driver_cuda=(11, 8)), MACHINE, "update the driver"),
        (PLAN, replace(MACHINE, free_bytes=500 << 20), "set TMPDIR to a larger disk"),
        (PLAN, replace(MACHINE, limits=Limits(cpus=8, memory=1 << 30)), "give the container more"),
        (replace(PLAN, budget=4), MACHINE, "--compile-timeout SECONDS"),
    ],
)
def test_each_that_is_not_enough_is_one_line(plan: Plan, machine: Machine, says: str) -> None:
    (line,) = plan_faults(plan, machine)
    assert says in line


def test_all_are_told_at_once() -> None:
    plan = replace(PLAN, driver_cuda=(11, 8), budget=1)
    machine = Machine(Limits(cpus=8, memory=1), 1, "/scratch")
    assert len(plan_faults(plan, machine)) == 4


def test_what_cannot_be_known_is_no_fault() -> None:
    machine = replace(MACHINE, limits=Limits(cpus=8, memory=None))
    assert plan_faults(replace(PLAN, driver_cuda=None), machine) == ()


def test_a_machine_without_compiler_headers_and_xz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "_has_lzma", lambda: False)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    target = Target("/nowhere/Python.h", "3.10", torch_directory="", setuptools=True)
    monkeypatch.setattr(preflight, "read_target", lambda *_: target)
    faults = machine_faults(PLAN, interpreter="python", environ={"PATH": str(tmp_path)})
    assert [line.rpartition(": ")[2] for line in faults] == [
        "apt-get install g++-12",
        "apt-get install python3.10-dev",
        "apt-get install xz-utils",
    ]
