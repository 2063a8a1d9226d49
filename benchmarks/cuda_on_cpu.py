"""For rehearsals alone: what asks for "cuda" gets the CPU, and tensors say that they are there.

Nothing that runs so is a measurement; it shows that a script that needs a GPU runs to its end.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def _moved(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("cuda"):
        return "cpu"
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return value


def _is_asked_by_apex() -> bool:
    """By Apex alone: torch, and a stand-in that takes its kernels, must know the truth."""
    return "/apex/" in sys._getframe(2).f_code.co_filename  # noqa: SLF001


class CudaOnCpu(TorchFunctionMode):
    """Every function of torch that takes a device."""

    def __torch_function__(
        self, function: Any, types: Any, words: Any = (), named: Any = None
    ) -> Any:
        if function == torch.Tensor.is_cuda.__get__ and _is_asked_by_apex():
            return True
        if function is torch.Tensor.cuda:
            return words[0]
        return function(
            *(_moved(word) for word in words),
            **{name: _moved(value) for name, value in (named or {}).items()},
        )


class Event:
    """In place of torch.cuda.Event."""

    def __init__(self, **_: Any) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, last: Event) -> float:
        return 1000 * (last.at - self.at)


def pretend() -> None:
    """For the rest of this process."""
    cuda: Any = torch.cuda
    for name, value in {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "is_bf16_supported": True,
        "manual_seed": None,
        "manual_seed_all": None,
        "synchronize": None,
        "is_current_stream_capturing": False,
    }.items():
        setattr(cuda, name, lambda *_, value=value, **__: value)
    cuda.Event = Event
    cuda.device = contextlib.nullcontext
    cuda.IntTensor = lambda values: torch.tensor(values, dtype=torch.int32)
    CudaOnCpu().__enter__()


def pretend_for_tests() -> None:
    """The same, and torch's own test classes for devices are made for "cuda"."""
    from torch.testing._internal import common_device_type  # noqa: PLC0415 - asks for a real GPU

    base = common_device_type.CUDATestBase
    base._do_cuda_memory_leak_check = base._do_cuda_non_default_stream = False  # noqa: SLF001
    base.setUpClass = classmethod(lambda cls: setattr(cls, "primary_device", "cuda:0"))
    if base not in common_device_type.device_type_test_bases:
        common_device_type.device_type_test_bases.append(base)
    pretend()
