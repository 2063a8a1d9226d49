"""nvidia-smi as the last to be asked; with a sick GPU it may never answer."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import List, Mapping, Optional

from apex_installer.errors import UsageError
from apex_installer.model.arch import parse_version
from apex_installer.model.environment import Gpu
from apex_installer.read.app_command import find_program
from apex_installer.read.visible import Listing

LIMIT = 5.0
"""Seconds; warm it takes 0.02."""
_QUERY = ("--query-gpu=driver_version,compute_cap,uuid,name", "--format=csv,noheader")


def read_by_smi(environ: Mapping[str, str]) -> Optional[Listing]:
    """All GPUs, in PCI order; None where nvidia-smi is missing, fails or does not answer."""
    program = find_program("nvidia-smi", environ)
    if program is None:
        return None
    import subprocess  # noqa: PLC0415 - costs 12 ms, and NVML nearly always answers

    try:
        process = subprocess.Popen(
            [program, *_QUERY],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # a wrapper's child too
        # One that hangs in the driver cannot be killed, and must not be waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=0.2)
        return None
    return parse_smi(output) if process.returncode == 0 else None


def parse_smi(output: str) -> Optional[Listing]:
    """Lines such as `580.159.04, 9.0, GPU-8932f937-…, NVIDIA H200`; None for anything else."""
    gpus: List[Gpu] = []
    driver = None
    for line in output.strip().splitlines():
        fields = [field.strip() for field in line.split(",", 3)]
        try:
            driver, capability, uuid, name = fields
            gpus.append(Gpu(parse_version(capability), name=name, uuid=uuid))
        except (ValueError, UsageError):
            return None
    return Listing(gpus=tuple(gpus), driver=driver) if gpus else None
