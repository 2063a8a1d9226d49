"""The environment: what the installer read of the pod. Unknown is None, never a guess."""

from __future__ import annotations

import re
from typing import Optional, Tuple

from apex_installer.model.arch import Version, version_text
from apex_installer.model.cell import Cell
from apex_installer.values import dataclass


@dataclass(frozen=True)
class Interpreter:
    """The Python that the app runs with."""

    executable: str
    """Absolute path as it is started (a virtual environment's link stays a link)."""
    tag: str
    """`cp310`, `cp313t` (PEP 425)."""
    version: str
    """`3.10.13`."""
    platform: str
    """`linux_x86_64`."""
    extension_suffix: str
    """`.cpython-310-x86_64-linux-gnu.so`."""
    path: Tuple[str, ...]
    """`sys.path` as the app will have it."""
    purelib: str
    """Where packages go by default (`sysconfig`)."""
    libpython: Optional[str] = None
    """The shared libpython, or None where the interpreter is static."""


@dataclass(frozen=True)
class Torch:
    """torch, as its files say; nothing of it was imported."""

    directory: str
    """The package folder, `…/site-packages/torch`."""
    version: str
    """`2.4.0+cu121`, from `torch/version.py`, not from METADATA (PyPI's lacks the local part)."""
    git: str
    cuda: Optional[str]
    """`12.1`; None for a CPU or ROCm build."""
    cxx11_abi: Optional[bool]
    hip: Optional[str] = None
    """ROCm release, or None."""

    @property
    def minor(self) -> Version:
        """(2, 4)."""
        match = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(match.group(1)), int(match.group(2))) if match else (0, 0)

    @property
    def is_release(self) -> bool:
        """A plain release (`2.4.0+cu121`), not a nightly, an alpha or a source build."""
        return re.fullmatch(r"\d+\.\d+\.\d+(\+(cu\d+|cpu|rocm[\d.]+))?", self.version) is not None


@dataclass(frozen=True)
class Gpu:
    """One GPU that the app will see."""

    capability: Version
    name: str = ""
    uuid: str = ""

    @property
    def text(self) -> str:
        """`NVIDIA L4 (8.9)` or `8.9`."""
        number = version_text(self.capability)
        return f"{self.name} ({number})" if self.name else number


@dataclass(frozen=True)
class Devices:
    """GPUs and driver, and where that was read."""

    gpus: Tuple[Gpu, ...]
    """Visible ones (CUDA_VISIBLE_DEVICES obeyed); empty where there is none."""
    source: str
    """`nvml`, `libcuda`, `nvidia-smi`, `--gpu` or `none`."""
    driver: Optional[str] = None
    """Kernel driver, `580.159.04`."""
    driver_cuda: Optional[Version] = None
    """Newest CUDA that the driver runs."""
    note: str = ""
    """What the reader should know, e.g. why all GPUs count although some are hidden."""


@dataclass(frozen=True)
class Environment:
    """Everything a choice depends on."""

    interpreter: Interpreter
    torch: Torch
    devices: Devices
    target: str
    """The directory that Apex goes into."""
    glibc: Optional[Version] = None

    @property
    def cell(self) -> Optional[Cell]:
        """The cell that this environment is, or None for a torch without CUDA."""
        if self.torch.cuda is None:
            return None
        major, minor = self.torch.cuda.split(".")[:2]
        return Cell(
            python=self.interpreter.tag,
            torch=self.torch.minor,
            cuda=(int(major), int(minor)),
            platform=self.interpreter.platform,
        )

    @property
    def gpu_text(self) -> str:
        """`sm_89`, `sm_80 sm_90`, or `no GPU visible`: for the line that people grep."""
        numbers = sorted({gpu.capability for gpu in self.devices.gpus})
        return " ".join(f"sm_{major}{minor}" for major, minor in numbers) or "no GPU visible"
