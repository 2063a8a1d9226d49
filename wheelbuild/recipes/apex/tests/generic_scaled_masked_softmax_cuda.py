"""Test of generic_scaled_masked_softmax_cuda: the masked softmax for any number of keys."""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

# This very file bears the module's name: its folder must not answer for it.
if Path(sys.path[0], "generic_scaled_masked_softmax_cuda.py").is_file():
    del sys.path[0]

import generic_scaled_masked_softmax_cuda

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
# The forward is computed in fp32 and rounded once (exp is approximate); the backward rounds each
# product of gradient and share before it sums them.
TOLERANCE = {dtype: 4 * ROUNDING[dtype] for dtype in HALVES}
SCALE = 0.625  # exact in both types: the module rounds it to the type of the input
# Batch, heads, queries, keys: one block of 128 threads takes a row, whatever its length.
SHAPES = ((2, 3, 7, 100), (2, 2, 5, 127), (3, 1, 10, 1001), (1, 2, 3, 5100))


@check(
    *((dtype, shape, shared) for dtype in HALVES for shape in SHAPES for shared in (True, False))
)
def forward_and_backward(dtype: torch.dtype, shape: tuple[int, ...], shared: bool) -> None:
    batch, _, queries, keys = shape
    x = (4 * torch.randn(shape, device="cuda")).to(dtype)
    mask = torch.rand(1 if shared else batch, 1, queries, keys, device="cuda") < 0.4
    mask[..., 0] = False
    output = generic_scaled_masked_softmax_cuda.forward(x, mask, SCALE)
    assert output.dtype == dtype
    assert not output[mask.expand(shape)].any(), "a hidden key has a share"
    expected = (SCALE * x.double()).masked_fill(mask, float("-inf")).softmax(-1)
    near(output, expected, TOLERANCE[dtype], "output")
    grad = torch.randn_like(output)
    kept, wide = output.double(), grad.double()
    by_input = SCALE * kept * (wide - (wide * kept).sum(-1, keepdim=True))
    got = generic_scaled_masked_softmax_cuda.backward(grad.clone(), output, SCALE)
    near(got, by_input, TOLERANCE[dtype], "grad_input")


if __name__ == "__main__":
    raise SystemExit(main("generic_scaled_masked_softmax_cuda"))
