"""Test of scaled_masked_softmax_cuda: softmax(scale * x) of what no mask hides, both ways."""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

# This very file bears the module's name: its folder must not answer for it.
if Path(sys.path[0], "scaled_masked_softmax_cuda.py").is_file():
    del sys.path[0]

import scaled_masked_softmax_cuda

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
# Computed in fp32 and rounded once; exp is approximate.
TOLERANCE = {dtype: 2 * ROUNDING[dtype] for dtype in HALVES}
SCALE = 0.625  # exact in both types: the module rounds it to the type of the input
# Batch, heads, queries, keys. Queries: a multiple of the rows in one block (8 at most); keys: of
# the vector width (4). Kernels differ by the power of two that holds the keys.
SHAPES = ((2, 3, 64, 24), (2, 3, 32, 128), (3, 2, 16, 500), (1, 2, 8, 2048), (2, 1, 8, 4096))


def draw_mask(shape: tuple[int, ...], *, shared: bool) -> torch.Tensor:
    """True hides a key. One per batch element or one for all; the first key is never hidden."""
    batch, _, queries, keys = shape
    mask = torch.rand(1 if shared else batch, 1, queries, keys, device="cuda") < 0.4
    mask[..., 0] = False
    return mask


@check(
    *((dtype, shape, shared) for dtype in HALVES for shape in SHAPES for shared in (True, False))
)
def forward_and_backward(dtype: torch.dtype, shape: tuple[int, ...], shared: bool) -> None:
    x = (4 * torch.randn(shape, device="cuda")).to(dtype)
    mask = draw_mask(shape, shared=shared)
    output = scaled_masked_softmax_cuda.forward(x, mask, SCALE)
    assert output.dtype == dtype
    assert not output[mask.expand(shape)].any(), "a hidden key has a share"
    expected = (SCALE * x.double()).masked_fill(mask, float("-inf")).softmax(-1)
    near(output, expected, TOLERANCE[dtype], "output")
    grad = torch.randn_like(output)
    kept, wide = output.double(), grad.double()
    by_input = SCALE * kept * (wide - (wide * kept).sum(-1, keepdim=True))
    got = scaled_masked_softmax_cuda.backward(grad.clone(), output, SCALE)
    near(got, by_input, TOLERANCE[dtype], "grad_input")


@check(*((dtype,) for dtype in HALVES))
def everything_hidden(dtype: torch.dtype) -> None:
    """A row without any key is zero, not NaN: padding relies on it."""
    x = torch.randn(2, 2, 32, 64, device="cuda").to(dtype)
    mask = torch.zeros(2, 1, 32, 64, dtype=torch.bool, device="cuda")
    mask[1] = True
    output = scaled_masked_softmax_cuda.forward(x, mask, SCALE)
    assert not output[1].any()
    near(output[0], (SCALE * x[0].double()).softmax(-1), TOLERANCE[dtype], "output")


@check((16, 16), (24, 8), (128, 8), (132, 4), (4096, 4))
def rows_per_block(keys: int, rows: int) -> None:
    """What callers ask before they choose this kernel: 128 threads, 32 at most for a row or two."""
    assert scaled_masked_softmax_cuda.get_batch_per_block(64, keys, 2, 4) == rows


if __name__ == "__main__":
    raise SystemExit(main("scaled_masked_softmax_cuda"))
