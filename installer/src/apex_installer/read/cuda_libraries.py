"""NVML and libcuda, asked through ctypes.

Sources: NVML API Reference; CUDA Driver API. Every call may be missing or fail: then None, and the
next reader is asked.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, Optional

from apex_installer.model.arch import Version
from apex_installer.model.environment import Gpu
from apex_installer.read.visible import Listing

FOLDERS = ("", "/usr/lib/wsl/lib/", "/usr/local/nvidia/lib64/", "/usr/lib64-nvidia/")
"""The loader's own search first; then where WSL, GKE and Colab put the driver's libraries."""
KERNEL_DRIVER = ("/sys/module/nvidia/version", "/proc/driver/nvidia/version")
_TEXT_SIZE = 96
"""NVML's longest text, NVML_DEVICE_UUID_V2_BUFFER_SIZE."""
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""

Load = Callable[[str], Any]
"""Opens a shared library by its name; None where there is none."""


def load_library(name: str) -> Any:
    """A ctypes library, or None."""
    import ctypes  # noqa: PLC0415 - costs 6 ms; `--gpu` does without

    for folder in FOLDERS:
        try:
            return ctypes.CDLL(folder + name)
        except OSError:
            continue
    return None


def read_driver_cuda(cuda: Any) -> Optional[Version]:
    """(13, 0): the newest CUDA that the loaded libcuda runs; needs no cuInit."""
    return None if cuda is None else _version(cuda, "cuDriverGetVersion")


def read_kernel_driver() -> Optional[str]:
    """`580.159.04`, as the kernel module says."""
    for path in KERNEL_DRIVER:
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                match = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", file.readline())
        except OSError:
            continue
        if match:
            return match.group()
    return None


def read_by_nvml(nvml: Any, environ: Mapping[str, str]) -> Optional[Listing]:
    """All GPUs of this container, in PCI order; None where NVML does not answer."""
    if nvml is None or not _call(nvml, "nvmlInitWithFlags", 0):
        return None
    count = _number(nvml, "nvmlDeviceGetCount_v2")
    if count is None:
        return None
    handles = [_handle(nvml, "nvmlDeviceGetHandleByIndex_v2", index) for index in range(count)]
    gpus = [_nvml_gpu(nvml, handle) for handle in handles]
    if None in gpus:
        return None
    # No nvmlShutdown: it costs 3 ms, and the end of this process does the same.
    return Listing(
        gpus=tuple(gpu for gpu in gpus if gpu is not None),
        driver=_text(nvml, "nvmlSystemGetDriverVersion") or None,
        driver_cuda=_version(nvml, "nvmlSystemGetCudaDriverVersion_v2"),
        mig_parents=_mig_parents(nvml, environ.get("CUDA_VISIBLE_DEVICES", "")),
    )


def read_by_cuda(cuda: Any) -> Optional[Listing]:
    """The GPUs that CUDA itself shows, CUDA_VISIBLE_DEVICES obeyed; None where cuInit fails."""
    if cuda is None or not _call(cuda, "cuInit", 0):
        return None
    count = _number(cuda, "cuDeviceGetCount")
    if count is None:
        return None
    gpus: List[Gpu] = []
    for index in range(count):
        device = _number(cuda, "cuDeviceGet", index)
        major = _number(cuda, "cuDeviceGetAttribute", _MAJOR, device)
        minor = _number(cuda, "cuDeviceGetAttribute", _MINOR, device)
        if device is None or major is None or minor is None:
            return None
        gpus.append(Gpu((major, minor), name=_cuda_name(cuda, device)))
    return Listing(gpus=tuple(gpus))


def _nvml_gpu(nvml: Any, handle: Any) -> Optional[Gpu]:
    import ctypes  # noqa: PLC0415 - as above

    major, minor = ctypes.c_int(), ctypes.c_int()
    outs = ctypes.byref(major), ctypes.byref(minor)
    if handle is None or not _call(nvml, "nvmlDeviceGetCudaComputeCapability", handle, *outs):
        return None
    return Gpu(
        (major.value, minor.value),
        name=_text(nvml, "nvmlDeviceGetName", handle),
        uuid=_text(nvml, "nvmlDeviceGetUUID", handle),
    )


def _mig_parents(nvml: Any, visible: str) -> Dict[str, str]:
    """The slices that CUDA_VISIBLE_DEVICES names -> uuid of their GPU."""
    found: Dict[str, str] = {}
    for word in (word.strip() for word in visible.split(",")):
        if word.startswith("MIG-") and not word.startswith("MIG-GPU-"):
            piece = _handle(nvml, "nvmlDeviceGetHandleByUUID", word.encode())
            parent = _handle(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", piece)
            if parent is not None:
                found[word] = _text(nvml, "nvmlDeviceGetUUID", parent)
    return found


def _call(library: Any, name: str, *arguments: Any) -> bool:
    """Whether the function is there and answers 0 (success in both libraries)."""
    try:
        return bool(getattr(library, name)(*arguments) == 0)
    except AttributeError:
        return False


def _number(library: Any, name: str, *arguments: Any) -> Optional[int]:
    """The int that a function writes through its first argument."""
    import ctypes  # noqa: PLC0415 - as above

    out = ctypes.c_int()
    return out.value if _call(library, name, ctypes.byref(out), *arguments) else None


def _version(library: Any, name: str) -> Optional[Version]:
    """CUDA writes 12.4 as 12040."""
    number = _number(library, name)
    return (number // 1000, number % 1000 // 10) if number else None


def _handle(library: Any, name: str, *arguments: Any) -> Any:
    """The opaque pointer that a function writes through its last argument."""
    import ctypes  # noqa: PLC0415 - as above

    out = ctypes.c_void_p()
    if None in arguments or not _call(library, name, *arguments, ctypes.byref(out)):
        return None
    return out


def _text(library: Any, name: str, *arguments: Any) -> str:
    """The text that a function writes into a buffer: (…, buffer, size)."""
    import ctypes  # noqa: PLC0415 - as above

    out = ctypes.create_string_buffer(_TEXT_SIZE)
    done = _call(library, name, *arguments, out, ctypes.c_uint(_TEXT_SIZE))
    return out.value.decode("utf-8", "replace") if done else ""


def _cuda_name(cuda: Any, device: int) -> str:
    import ctypes  # noqa: PLC0415 - as above

    out = ctypes.create_string_buffer(_TEXT_SIZE)
    done = _call(cuda, "cuDeviceGetName", out, _TEXT_SIZE, device)
    return out.value.decode("utf-8", "replace") if done else ""
