"""An NVIDIA driver of any age with one GPU: its two libraries, compiled by this machine's cc.

`LD_LIBRARY_PATH=<folder>` makes a process find them before the machine's own.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CUDA = """
int cuDriverGetVersion(int *version) { *version = %(cuda)d; return 0; }
int cuInit(unsigned flags) { return 100; }
"""
NVML = """
#include <stdio.h>
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = handle; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = %(major)d; *minor = %(minor)d; return 0;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    snprintf(text, size, "Made Up"); return 0;
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    snprintf(text, size, "GPU-00000000"); return 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "%(driver)s"); return 0;
}
"""


def make_driver(
    folder: Path, cc: str, *, driver: str, cuda: tuple[int, int], gpu: tuple[int, int]
) -> Path:
    """Write both libraries below `folder`; returns it. Some 0.1 s."""
    folder.mkdir(parents=True)
    words = {"driver": driver, "cuda": cuda[0] * 1000 + cuda[1] * 10}
    words |= {"major": gpu[0], "minor": gpu[1]}
    for name, source in (("libcuda.so.1", CUDA), ("libnvidia-ml.so.1", NVML)):
        command = [cc, "-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / name)]
        subprocess.run(command, input=source % words, text=True, check=True)
    return folder
