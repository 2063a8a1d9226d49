"""Test of syncbn: statistics, normalization and gradients of batch norm, NCHW and channels last.

The kernels take fp32 and fp16; statistics are fp32 in both. The reference computes in float64.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

# This very file bears the module's name: its folder must not answer for it.
if Path(sys.path[0], "syncbn.py").is_file():
    del sys.path[0]

import syncbn

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

DTYPES = (torch.float32, torch.float16)
# fp32: sums of up to 4,000 terms in another order than the reference's, measured against values
# whose own rounding is 6e-8. fp16: two roundings of the result.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4 * ROUNDING[torch.float16]}
STATISTICS = 2e-5  # always accumulated and stored in fp32
EPS = 1e-5
# The channels are powers of two, as the launch of the channels-last kernels takes for granted; the
# first has rows enough for their second stage, a reduction over the blocks of a grid.
SHAPES = ((4, 64, 28, 24), (2, 32, 7, 5), (8, 128, 4, 4))


@dataclass(frozen=True)
class Case:
    """One input with what batch norm makes of it, in float64, channels last as (rows, channels)."""

    x: torch.Tensor
    grad: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    mean: torch.Tensor
    var: torch.Tensor

    @property
    def inv_std(self) -> torch.Tensor:
        return (self.var + EPS).rsqrt()

    @property
    def centred(self) -> torch.Tensor:
        return self.x.double() - self.mean

    @property
    def output(self) -> torch.Tensor:
        return self.centred * self.inv_std * self.weight.double() + self.bias.double()

    @property
    def grad_input(self) -> torch.Tensor:
        grad = self.grad.double()
        along = (grad * self.centred).mean(0) * self.inv_std**2
        factor = self.inv_std * self.weight.double()
        return (grad - grad.mean(0) - self.centred * along) * factor


def draw(rows: int, channels: int, dtype: torch.dtype, weight_dtype: torch.dtype) -> Case:
    """A case whose channels have means of their own: a kernel that mixes channels shows."""
    offset = 2 * torch.randn(channels, device="cuda")
    x = (torch.randn(rows, channels, device="cuda") + offset).to(dtype)
    return Case(
        x=x,
        grad=torch.randn(rows, channels, device="cuda").to(dtype),
        weight=(1 + 0.2 * torch.randn(channels, device="cuda")).to(weight_dtype),
        bias=torch.randn(channels, device="cuda").to(weight_dtype),
        mean=x.double().mean(0),
        var=x.double().var(0, unbiased=False),
    )


def planes(rows: torch.Tensor, shape: tuple[int, int, int, int]) -> torch.Tensor:
    """(rows, channels) as contiguous NCHW of this shape."""
    n, c, h, w = shape
    return rows.reshape(n, h, w, c).permute(0, 3, 1, 2).contiguous()


# fp16 with fp32 weights is a path of its own in every kernel.
PAIRS = (
    (torch.float32, torch.float32),
    (torch.float16, torch.float16),
    (torch.float16, torch.float32),
)
CASES = tuple((shape, *pair) for shape in SHAPES for pair in PAIRS)


def counted(rows: int) -> torch.Tensor:
    """The element count per process, here as if two processes had half of the rows each."""
    return torch.tensor([rows // 2, rows - rows // 2], dtype=torch.int32, device="cuda")


@check(*CASES)
def planar(shape: tuple[int, int, int, int], dtype: torch.dtype, weights: torch.dtype) -> None:
    n, c, h, w = shape
    case = draw(n * h * w, c, dtype, weights)
    x, grad = planes(case.x, shape), planes(case.grad, shape)
    mean, var = syncbn.welford_mean_var(x)
    near(mean, case.mean, STATISTICS, "mean")
    near(var, case.var, STATISTICS, "biased variance")
    mean, inv_std = case.mean.float(), case.inv_std.float()
    output = syncbn.batchnorm_forward(x, mean, inv_std, case.weight, case.bias)
    assert output.dtype == dtype
    near(output, planes(case.output, shape), TOLERANCE[dtype], "output")
    sums = syncbn.reduce_bn(grad, x, mean, inv_std, case.weight)
    compare_sums(case, sums, weights)
    grad_input = syncbn.batchnorm_backward(
        grad, x, mean, inv_std, case.weight, sums[0], sums[1], counted(n * h * w)
    )
    near(grad_input, planes(case.grad_input, shape), TOLERANCE[dtype], "grad_input")


def compare_sums(case: Case, sums: list[torch.Tensor], weights: torch.dtype) -> None:
    """What is reduced over processes, and the gradients of weight and bias."""
    along = (case.grad.double() * case.centred).sum(0)
    near(sums[0], case.grad.double().sum(0), STATISTICS, "sum of grad")
    near(sums[1], along, STATISTICS, "sum of grad * (x - mean)")
    near(sums[2], along * case.inv_std, TOLERANCE[weights], "grad_weight")
    near(sums[3], case.grad.double().sum(0), TOLERANCE[weights], "grad_bias")


@check(*CASES)
def channels_last(
    shape: tuple[int, int, int, int], dtype: torch.dtype, weights: torch.dtype
) -> None:
    n, c, h, w = shape
    case = draw(n * h * w, c, dtype, weights)
    x, grad = case.x.reshape(n, h, w, c), case.grad.reshape(n, h, w, c)
    mean, var = syncbn.welford_mean_var_c_last(x)
    near(mean, case.mean, STATISTICS, "mean")
    near(var, case.var, STATISTICS, "biased variance")
    mean, inv_std = case.mean.float(), case.inv_std.float()
    output = syncbn.batchnorm_forward_c_last(x, None, mean, inv_std, case.weight, case.bias, False)
    near(output.reshape(-1, c), case.output, TOLERANCE[dtype], "output")
    sums = syncbn.reduce_bn_c_last(grad, x, mean, inv_std, case.weight)
    compare_sums(case, sums, weights)
    grad_input = syncbn.batchnorm_backward_c_last(
        grad, x, mean, inv_std, case.weight, sums[0], sums[1], counted(n * h * w)
    )
    near(grad_input.reshape(-1, c), case.grad_input, TOLERANCE[dtype], "grad_input")


@check(*PAIRS)
def residual_and_relu(dtype: torch.dtype, weights: torch.dtype) -> None:
    n, c, h, w = SHAPES[0]
    case = draw(n * h * w, c, dtype, weights)
    z = torch.randn(n * h * w, c, device="cuda").to(dtype)
    before = case.output + z.double()
    mean, inv_std = case.mean.float(), case.inv_std.float()
    x, added, grad = (t.reshape(n, h, w, c) for t in (case.x, z, case.grad))
    output = syncbn.batchnorm_forward_c_last(x, added, mean, inv_std, case.weight, case.bias, True)
    near(output.reshape(-1, c), before.relu(), TOLERANCE[dtype], "output")
    passed = syncbn.relu_bw_c_last(grad, x, added, mean, inv_std, case.weight, case.bias)
    # Within rounding of zero either side of the step is right: those elements are left out.
    sure = before.abs() > 1e-3
    wanted = torch.where(before > 0, case.grad.double(), 0.0)
    assert torch.equal(passed.reshape(-1, c).double()[sure], wanted[sure])


@check((2, 64), (5, 96), (1, 32))
def merge_of_processes(processes: int, channels: int) -> None:
    sizes = torch.randint(3, 50, (processes,), device="cuda").int()
    parts = [torch.randn(int(size), channels, device="cuda") + k for k, size in enumerate(sizes)]
    means = torch.stack([part.mean(0) for part in parts])
    variances = torch.stack([part.var(0, unbiased=False) for part in parts])
    mean, var, inv_std = syncbn.welford_parallel(means, variances, sizes, EPS)
    whole = torch.cat(parts).double()
    near(mean, whole.mean(0), STATISTICS, "mean")
    near(var, whole.var(0), STATISTICS, "unbiased variance")
    near(inv_std, (whole.var(0, unbiased=False) + EPS).rsqrt(), STATISTICS, "inverse deviation")


if __name__ == "__main__":
    raise SystemExit(main("syncbn"))
