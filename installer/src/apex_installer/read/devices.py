"""The GPUs that the app will see, and the driver: NVML, else libcuda, else nvidia-smi.

NVML takes some 20 ms and wakes nothing; `cuInit` takes 130 ms and is asked only where NVML fails.
The driver's CUDA is always libcuda's own word, for that library is what the app will load: with
NVIDIA's compatibility package it is newer than the kernel driver.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Optional, Sequence, Tuple

from apex_installer.errors import UsageError
from apex_installer.model.arch import Version, parse_version
from apex_installer.model.environment import Devices, Gpu
from apex_installer.read.cuda_libraries import (
    Load,
    load_library,
    read_by_cuda,
    read_by_nvml,
    read_driver_cuda,
    read_kernel_driver,
)
from apex_installer.read.nvidia_smi import read_by_smi
from apex_installer.read.visible import Listing, choose_visible
from apex_installer.threads import LateError, Later

LIMIT = 7.0
"""Seconds for all of them; nvidia-smi alone is given 5."""

LISTED = ("nvml", "nvidia-smi")
"""Sources that list all GPUs; libcuda obeys CUDA_VISIBLE_DEVICES itself."""


def read_devices(
    *, environ: Mapping[str, str], gpu: Optional[str], load: Load = load_library
) -> Devices:
    """GPUs, driver and where they were read; `gpu` is the text of `--gpu`, which stands for them.

    UsageError for a `--gpu` that is none. A machine without GPUs is no error: no GPUs, source
    `none`. `load` opens a shared library by name, or returns None.
    """
    if gpu is not None:
        return Devices(gpus=parse_gpus(gpu), source="--gpu")
    try:
        return Later(lambda: _read(environ, load)).take(seconds=LIMIT)
    except LateError:
        note = f"the driver did not answer within {LIMIT:g} s: its GPUs are not known"
        return Devices(gpus=(), source="none", note=note)


def _read(environ: Mapping[str, str], load: Load) -> Devices:
    """What is asked may hang for ever, with a sick GPU, where no signal ends it."""
    cuda = load("libcuda.so.1")
    readers: Tuple[Tuple[str, Callable[[], Optional[Listing]]], ...] = (
        ("nvml", lambda: read_by_nvml(load("libnvidia-ml.so.1"), environ)),
        ("libcuda", lambda: read_by_cuda(cuda)),
        ("nvidia-smi", lambda: read_by_smi(environ)),
    )
    for source, read in readers:
        listing = read()
        if listing is not None:
            return _devices(source, listing, environ, cuda)
    return Devices(
        gpus=(), source="none", driver=read_kernel_driver(), driver_cuda=read_driver_cuda(cuda)
    )


def parse_gpus(text: str) -> Tuple[Gpu, ...]:
    """`8.0,8.6` -> two GPUs; UsageError shows the form."""
    parts = [part for part in text.replace(";", ",").replace(" ", ",").split(",") if part]
    try:
        gpus = tuple(Gpu(parse_version(part)) for part in parts)
    except UsageError as error:
        raise UsageError(f"--gpu {text}: {error}; write compute capabilities: 8.0,8.6") from error
    if not gpus:
        raise UsageError("--gpu is empty; write compute capabilities: 8.0,8.6")
    return gpus


def _devices(source: str, listing: Listing, environ: Mapping[str, str], cuda: Any) -> Devices:
    gpus: Sequence[Gpu] = listing.gpus
    note = ""
    if source in LISTED:
        gpus, note = choose_visible(listing, environ)
    driver_cuda: Optional[Version] = read_driver_cuda(cuda) or listing.driver_cuda
    return Devices(
        gpus=tuple(gpus),
        source=source,
        driver=listing.driver or read_kernel_driver(),
        driver_cuda=driver_cuda,
        note=note,
    )
