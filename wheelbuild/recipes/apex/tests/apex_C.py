"""Test of apex_C: tensors into one flat buffer and back, bit for bit (nothing is computed)."""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

# This very file bears the module's name: its folder must not answer for it.
if Path(sys.path[0], "apex_C.py").is_file():
    del sys.path[0]

import apex_C

if TYPE_CHECKING:
    from collections.abc import Callable

# --- The same in every module test, held equal by a unit test: a module test is one text with
# --- nothing of ours beside it, handed to the target's interpreter by farm and zipapp alike.
CHECKS: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


def check(*cases: tuple[Any, ...]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a check; it is called once for each case, with its own seed."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        CHECKS.extend((function, case) for case in cases or ((),))
        return function

    return register


def near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float, what: str) -> None:
    """Assert ||actual - expected|| <= tolerance ||expected||, and no element far off by itself.

    The norm finds what is wrong everywhere; the largest error (within 8 tolerances of the largest
    value) finds the single bad element that a norm hides. NaN passes neither.
    """
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, not {expected.shape}"
    wanted = expected.double()
    error = actual.double() - wanted
    norm = (error.norm() / wanted.norm()).item()
    worst = (error.abs().max() / wanted.abs().max()).item()
    good = norm <= tolerance and worst <= 8 * tolerance
    assert good, f"{what}: error {norm:.2e} in norm, {worst:.2e} at worst, of {tolerance:.1e}"


def driver_version() -> str | None:
    """The driver's version, from NVML: torch knows only the CUDA version that it supports."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        text = ctypes.create_string_buffer(96)
        failed = nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(text, len(text))
    except (OSError, AttributeError):
        return None
    return None if failed else text.value.decode()


def main(module: str, *, needs_gpu: bool = True) -> int:
    """Run every check and print one line of JSON; 0 if none failed."""
    cuda = torch.cuda.is_available()
    if needs_gpu and not cuda:
        print(json.dumps({"module": module, "skipped": "no GPU"}))
        return 0
    started, errors = time.monotonic(), []
    for seed, (function, case) in enumerate(CHECKS):
        torch.manual_seed(seed)
        try:
            function(*case)
            if cuda:  # kernels fail later than their launch: blame the check that launched them
                torch.cuda.synchronize()
        except Exception as error:  # noqa: BLE001  # every kind of failure is a result here
            errors.append(f"{function.__name__}{case}: {type(error).__name__}: {error}")
    result = {
        "module": module,
        "passed": len(CHECKS) - len(errors),
        "failed": len(errors),
        "first_error": errors[0] if errors else None,
        "seconds": round(time.monotonic() - started, 3),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "driver": driver_version() if cuda else None,
    }
    print(json.dumps(result))
    return 1 if errors else 0


# --- End of what is the same.

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
SHAPES = ((3, 5), (1,), (2, 4, 6), (), (127,))


def tensors(dtype: torch.dtype, device: str) -> list[torch.Tensor]:
    """Fresh tensors of several shapes, a single number among them."""
    return [torch.randn(shape).to(device=device, dtype=dtype) for shape in SHAPES]


@check(*((dtype, device) for device in DEVICES for dtype in (*ROUNDING, torch.float64)))
def flatten_joins(dtype: torch.dtype, device: str) -> None:
    parts = tensors(dtype, device)
    flat = apex_C.flatten(parts)
    assert flat.dtype == dtype
    assert torch.equal(flat, torch.cat([part.reshape(-1) for part in parts]))


@check(*((dtype, device) for device in DEVICES for dtype in (*ROUNDING, torch.float64)))
def unflatten_restores(dtype: torch.dtype, device: str) -> None:
    like = tensors(dtype, device)
    flat = torch.randn(sum(part.numel() for part in like)).to(device=device, dtype=dtype)
    parts = apex_C.unflatten(flat, like)
    assert [part.shape for part in parts] == [part.shape for part in like]
    assert torch.equal(torch.cat([part.reshape(-1) for part in parts]), flat)


@check()
def flatten_copies() -> None:
    """The buffer is a copy: what is written to it must not reach the tensors it was made of."""
    parts = tensors(torch.float32, "cpu")
    before = [part.clone() for part in parts]
    apex_C.flatten(parts).zero_()
    assert all(torch.equal(part, old) for part, old in zip(parts, before))


if __name__ == "__main__":
    raise SystemExit(main("apex_C", needs_gpu=False))
