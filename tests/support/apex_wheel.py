"""A wheel of real Apex for this Python and torch 2.11.0: one that is given, else a build."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.skips import NO_APEX_SOURCE
from wheelbuild.wheelfile import WheelName

if TYPE_CHECKING:
    from support.torch_environments import TorchEnvironment

TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
CELL = f"{TAG}-torch2.11-cu130-linux_x86_64"


def find_apex_wheel(torch: TorchEnvironment, *, cache: Path) -> Path:
    """`WHEELBUILD_TEST_APEX_WHEEL`, else `WHEELBUILD_TEST_APEX_SOURCE` compiled, else a skip.

    Compiling takes 50 CPU-minutes the first time; what is compiled stays in the cache.
    """
    given = os.environ.get("WHEELBUILD_TEST_APEX_WHEEL")
    if given:
        python = WheelName.parse(Path(given).name).python
        if python != TAG:
            raise ValueError(f"WHEELBUILD_TEST_APEX_WHEEL: {given} is for {python}, not {TAG}")
        return Path(given)
    source = os.environ.get("WHEELBUILD_TEST_APEX_SOURCE")
    if not source:
        pytest.skip(NO_APEX_SOURCE)
    return _build(Path(source), torch, cache=cache)


def _build(source: Path, torch: TorchEnvironment, *, cache: Path) -> Path:
    command = [sys.executable, "-m", "wheelbuild", "build", CELL, "--cache", str(cache)]
    command += ["--source", str(source), "--python", str(torch.build_python), "--arch", "9.0"]
    command += ["--index", str(cache / "test-index")]  # empty: nothing is there already
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{ran.stderr}")
    return Path(ran.stdout.strip().splitlines()[-1])
