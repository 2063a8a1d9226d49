"""Test of fused_weight_gradient_mlp_cuda: dW += dY^T X in place, into fp32 or the input's type."""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

# This very file bears the module's name: its folder must not answer for it.
if Path(sys.path[0], "fused_weight_gradient_mlp_cuda.py").is_file():
    del sys.path[0]

import fused_weight_gradient_mlp_cuda

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

HALVES = (torch.float16, torch.bfloat16)
# Into fp32 from halves: products are exact, their sum is fp32's. From fp32: room for TF32 (10
# bits), which the environment may allow. Into halves: rounded once, and once more where the library
# splits the sum.
TO_FP32 = {torch.float32: 2e-3, torch.float16: 1e-4, torch.bfloat16: 1e-4}
TO_SAME = {dtype: 4 * ROUNDING[dtype] for dtype in HALVES}
# Leading dimensions of X and dY, which are joined to one; X's width; dY's width.
SHAPES = (((512,), 256, 384), ((24, 8), 128, 64), ((4, 3, 32), 1024, 256))


def draw(shape: tuple[Any, ...], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """X and dY; a sum over the rows of their products stays near 1."""
    rows, inner, outer = shape
    x = torch.randn(*rows, inner, device="cuda").to(dtype)
    grad = torch.randn(*rows, outer, device="cuda") / x[..., 0].numel() ** 0.5
    return x, grad.to(dtype)


@check(*((dtype, shape) for dtype in ROUNDING for shape in SHAPES))
def into_fp32(dtype: torch.dtype, shape: tuple[Any, ...]) -> None:
    x, grad = draw(shape, dtype)
    total = torch.randn(shape[2], shape[1], device="cuda")
    expected = total.double() + grad.flatten(0, -2).double().t() @ x.flatten(0, -2).double()
    fused_weight_gradient_mlp_cuda.wgrad_gemm_accum_fp32(x, grad, total)
    near(total, expected, TO_FP32[dtype], "weight gradient")


@check(*((dtype, shape) for dtype in HALVES for shape in SHAPES))
def into_the_same_type(dtype: torch.dtype, shape: tuple[Any, ...]) -> None:
    x, grad = draw(shape, dtype)
    total = torch.randn(shape[2], shape[1], device="cuda").to(dtype)
    expected = total.double() + grad.flatten(0, -2).double().t() @ x.flatten(0, -2).double()
    fused_weight_gradient_mlp_cuda.wgrad_gemm_accum_fp16(x, grad, total)
    near(total, expected, TO_SAME[dtype], "weight gradient")


if __name__ == "__main__":
    raise SystemExit(main("fused_weight_gradient_mlp_cuda"))
