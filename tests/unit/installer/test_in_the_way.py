"""What is in the way of any Apex, each with the command that mends it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer.in_the_way import driver_obstacle, target_obstacle
from apex_installer.model.environment import Devices
from support.wheels import tiny_environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("driver_cuda", "cuda", "obstructs"),
    [
        ((12, 8), "13.0", True),
        ((13, 0), "13.2", False),
        ((13, 0), "12.4", False),
        (None, "13.0", False),
        ((12, 8), None, False),
    ],
)
def test_a_driver_too_old_for_torch(
    driver_cuda: tuple[int, int] | None, cuda: str | None, *, obstructs: bool
) -> None:
    environment = tiny_environment("/t", cuda=cuda)
    devices = Devices((), "nvml", driver="535.104.05", driver_cuda=driver_cuda)
    found = driver_obstacle(replace(environment, devices=devices))
    said = (
        "driver 535.104.05 runs CUDA up to 12.8, torch 2.11.0+cu130 has 13.0: update the driver, "
        "or install a torch for CUDA 12"
    )
    assert found == (said if obstructs else None)


def test_a_target_that_can_be_written_is_in_nobody_s_way(tmp_path: Path) -> None:
    assert target_obstacle(str(tmp_path)) is None


def test_a_target_that_is_not_there(tmp_path: Path) -> None:
    found = target_obstacle(f"{tmp_path}/x")
    assert found == f"{tmp_path}/x is no folder: mkdir -p {tmp_path}/x, or say --target DIR"


@pytest.mark.parametrize(
    ("own", "says"),
    [(True, "cannot be written: chmod u+wx {}"), (False, "{} belongs to uid ")],
)
def test_a_target_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, own: bool, says: str
) -> None:
    """The tests may run as root, whom no mode keeps out."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + (not own))
    assert says.format(tmp_path) in str(target_obstacle(str(tmp_path)))


def test_a_target_on_a_read_only_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReadOnly:
        f_flag = os.ST_RDONLY

    def statvfs(_: Any) -> ReadOnly:
        return ReadOnly()

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", statvfs)
    assert "is on a read-only file system: say --target DIR" in str(target_obstacle(str(tmp_path)))
