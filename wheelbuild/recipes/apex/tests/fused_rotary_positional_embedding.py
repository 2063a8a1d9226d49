"""Test of fused_rotary_positional_embedding: the four layouts, forward and backward.

The reference rotates halves in float64; its gradient is autograd's.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

# This very file bears the module's name: its folder must not answer for it.
if Path(sys.path[0], "fused_rotary_positional_embedding.py").is_file():
    del sys.path[0]

import fused_rotary_positional_embedding as rope

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

# cos and sin are rounded to the input's type, then each product, then the sum. fp32: sin and cos of
# angles up to 64.
TOLERANCE = {dtype: max(4 * unit, 1e-6) for dtype, unit in ROUNDING.items()}


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Rotate the first angles.shape[-1] values of the last dimension, half against half."""
    turned, rest = x[..., : angles.shape[-1]], x[..., angles.shape[-1] :]
    first, second = turned.chunk(2, -1)
    swapped = torch.cat((-second, first), -1)
    return torch.cat((turned * angles.cos() + swapped * angles.sin(), rest), -1)


def draw_angles(length: int, width: int) -> torch.Tensor:
    """Positions times falling frequencies, the same for both halves: (length, width), fp32."""
    frequencies = 10000 ** (-torch.arange(0, width, 2, device="cuda") / width)
    angles = torch.arange(length, device="cuda")[:, None] * frequencies
    return torch.cat((angles, angles), -1).float()


def compare(
    forward: Callable[[torch.Tensor], torch.Tensor],
    backward: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    angles: torch.Tensor,
) -> torch.Tensor:
    """Both directions against the reference; the layouts differ in shape alone, never in order."""
    wide = x.double().requires_grad_()
    expected = rotate(wide, angles.double())
    output = forward(x)
    assert output.dtype == x.dtype
    near(output.reshape(x.shape), expected, TOLERANCE[x.dtype], "output")
    grad = torch.randn_like(x)
    expected.backward(grad.double())
    near(backward(grad).reshape(x.shape), wide.grad, TOLERANCE[x.dtype], "grad_input")
    return output


@check(
    *(
        (dtype, shape, width, cached, swap)
        for dtype in ROUNDING
        for shape in ((64, 2, 8, 64), (33, 3, 20, 128))
        for width in (shape[-1], shape[-1] // 2)
        for cached in (True, False)
        for swap in (True, False)
    )
)
def sequence_first(
    dtype: torch.dtype, shape: tuple[int, ...], width: int, cached: bool, swap: bool
) -> None:
    """(sequence, batch, heads, size), all or half of size; `swap`: batch first in memory."""
    x = torch.randn(shape, device="cuda").to(dtype)
    angles = draw_angles(shape[0], width)[:, None, None, :]
    tables = (angles.cos(), angles.sin()) if cached else (angles,)
    forward = rope.forward_cached if cached else rope.forward
    backward = rope.backward_cached if cached else rope.backward
    output = compare(
        lambda x: forward(x, *tables, swap), lambda grad: backward(grad, *tables, swap), x, angles
    )
    assert (output.transpose(0, 1) if swap else output).is_contiguous()


@check(*((dtype,) for dtype in ROUNDING))
def strided_input(dtype: torch.dtype) -> None:
    """A query that is a view into qkv."""
    x = torch.randn(40, 2, 3, 8, 64, device="cuda").to(dtype)[:, :, 1]
    angles = draw_angles(40, 64)[:, None, None, :]
    compare(
        lambda x: rope.forward(x, angles, False),
        lambda grad: rope.backward(grad, angles, False),
        x,
        angles,
    )


@check(*((dtype, width) for dtype in ROUNDING for width in (64, 32)))
def packed_sequences(dtype: torch.dtype, width: int) -> None:
    """(tokens, heads, size) of sequences behind one another, each counted from 0."""
    lengths = torch.tensor([5, 1, 40, 18])
    ends = torch.cat((torch.zeros(1), lengths.cumsum(0))).int().cuda()
    x = torch.randn(int(lengths.sum()), 8, 64, device="cuda").to(dtype)
    table = draw_angles(int(lengths.max()), width)
    angles = torch.cat([table[:length] for length in lengths.tolist()])[:, None, :]
    compare(
        lambda x: rope.forward_thd(x, ends, table[:, None, None, :]),
        lambda grad: rope.backward_thd(grad, ends, table[:, None, None, :]),
        x,
        angles,
    )


@check(*((dtype,) for dtype in ROUNDING))
def image(dtype: torch.dtype) -> None:
    """(batch, height, width, heads, size): half of size turns by row, half by column."""
    x = torch.randn(2, 9, 7, 8, 128, device="cuda").to(dtype)
    by_row, by_column = draw_angles(12, 64)[None, :, None], draw_angles(10, 64)[None, :, None]
    tables = (by_row.cos(), by_row.sin(), by_column.cos(), by_column.sin())
    wide = x.double().requires_grad_()
    rows, columns = wide.chunk(2, -1)
    expected = torch.cat(
        (
            rotate(rows, by_row[:, :9, None].double()),
            rotate(columns, by_column[:, None, :7].double()),
        ),
        -1,
    )
    output = rope.forward_2d(x, *tables)
    assert output.dtype == dtype
    near(output.reshape(x.shape), expected, TOLERANCE[dtype], "output")
    grad = torch.randn_like(x)
    expected.backward(grad.double())
    got = rope.backward_2d(grad, *tables)
    near(got.reshape(x.shape), wide.grad, TOLERANCE[dtype], "grad_input")


if __name__ == "__main__":
    raise SystemExit(main("fused_rotary_positional_embedding"))
