"""Test of fused_dense_cuda: linear with bias, and linear-GELU-linear, forward and backward.

The reference computes each product in float64 from the operands that the module had.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import gelu

# This very file bears the module's name: its folder must not answer for it.
if Path(sys.path[0], "fused_dense_cuda.py").is_file():
    del sys.path[0]

import fused_dense_cuda

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
# Products are summed in fp32 and the result is rounded once, gradients behind a GELU twice. fp32:
# room for TF32 (10 bits), which the environment may allow; it is no fault of a build.
TOLERANCE = {dtype: max(4 * unit, 2e-3) for dtype, unit in ROUNDING.items()}
# batch, in, out (GELU: hidden = 2 x in). Large: for small ones cuBLASLt may have no kernel that
# also sums the gradient of the bias, and upstream's way around it leaves that gradient unwritten.
SHAPES = ((512, 256, 1024), (1536, 1024, 3072))


def draw(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Normal values, divided so that a sum of products over the last dimension stays near 1."""
    return (torch.randn(shape, device="cuda") / shape[-1] ** 0.5).to(dtype)


@check(*((dtype, *shape) for dtype in ROUNDING for shape in SHAPES))
def linear_bias(dtype: torch.dtype, batch: int, inner: int, outer: int) -> None:
    x = torch.randn(batch, inner, device="cuda").to(dtype)
    weight, bias = draw(outer, inner, dtype=dtype), draw(outer, dtype=dtype)
    output = fused_dense_cuda.linear_bias_forward(x, weight, bias)
    assert output.dtype == dtype
    wide = x.double() @ weight.double().t() + bias.double()
    near(output, wide, TOLERANCE[dtype], "output")
    grad = torch.randn_like(output)
    by_input, by_weight, by_bias = fused_dense_cuda.linear_bias_backward(x, weight, grad)
    near(by_input, grad.double() @ weight.double(), TOLERANCE[dtype], "grad_input")
    near(by_weight, grad.double().t() @ x.double(), TOLERANCE[dtype], "grad_weight")
    near(by_bias, grad.double().sum(0), TOLERANCE[dtype], "grad_bias")


@check(*((dtype, *shape) for dtype in HALVES for shape in SHAPES))
def linear_gelu_linear(dtype: torch.dtype, batch: int, inner: int, outer: int) -> None:
    hidden, tolerance = 2 * inner, TOLERANCE[dtype]
    x = torch.randn(batch, inner, device="cuda").to(dtype)
    weight1, bias1 = draw(hidden, inner, dtype=dtype), draw(hidden, dtype=dtype)
    weight2, bias2 = draw(outer, hidden, dtype=dtype), draw(outer, dtype=dtype)
    middle, output, before = fused_dense_cuda.linear_gelu_linear_forward(
        x, weight1, bias1, weight2, bias2
    )
    wide = x.double() @ weight1.double().t() + bias1.double()
    near(before, wide, tolerance, "input of GELU")
    near(middle, gelu(wide, approximate="tanh"), tolerance, "output of GELU")
    second = middle.double() @ weight2.double().t() + bias2.double()
    near(output, second, tolerance, "output")
    grad = torch.randn_like(output)
    got = fused_dense_cuda.linear_gelu_linear_backward(x, before, middle, weight1, weight2, grad)
    slope_at = before.double().requires_grad_()
    by_middle = grad.double() @ weight2.double()
    (by_before,) = torch.autograd.grad(gelu(slope_at, approximate="tanh"), slope_at, by_middle)
    near(got[0], by_before @ weight1.double(), tolerance, "grad_input")
    near(got[1], by_before.t() @ x.double(), tolerance, "grad_weight1")
    near(got[2], by_before.sum(0), tolerance, "grad_bias1")
    near(got[3], grad.double().t() @ middle.double(), tolerance, "grad_weight2")
    near(got[4], grad.double().sum(0), tolerance, "grad_bias2")


if __name__ == "__main__":
    raise SystemExit(main("fused_dense_cuda"))
