"""Test of mlp_cuda: linear layers with bias and activation in one call, forward and backward.

The kernels take fp32 and fp16. The reference computes in float64 from what the module itself kept
of its forward pass: a ReLU's gradient steps where an activation rounds to zero, and a backward
from other activations would compare two different functions there.
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
if Path(sys.path[0], "mlp_cuda.py").is_file():
    del sys.path[0]

import mlp_cuda

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
# fp16: up to three layers, each rounded twice, by the product and with the bias; products are
# summed in fp32. fp32: room for TF32 (10 bits), which the environment may allow.
TOLERANCE = {torch.float32: 2e-3, torch.float16: 6 * ROUNDING[torch.float16]}
ACTIVATIONS = {0: lambda y: y, 1: torch.relu, 2: torch.sigmoid}
SLOPES = {  # by the activation's own output
    0: torch.ones_like,
    1: lambda y: (y > 0).to(y.dtype),
    2: lambda y: y * (1 - y),
}
SIZES = ((480, 1024, 512, 256), (256, 128), (96, 64, 8))


def draw(sizes: tuple[int, ...], dtype: torch.dtype, batch: int) -> list[torch.Tensor]:
    """Input, weights and biases, in the module's order; values stay near 1 through the layers."""
    layers = list(zip(sizes, sizes[1:]))
    x = torch.randn(batch, sizes[0], device="cuda")
    weights = [torch.randn(o, i, device="cuda") / i**0.5 for i, o in layers]
    biases = [torch.randn(o, device="cuda") / 4 for _, o in layers]
    return [tensor.to(dtype) for tensor in (x, *weights, *biases)]


@check(
    *(
        (dtype, sizes, activation, biased)
        for dtype in DTYPES
        for sizes in SIZES
        for activation in ACTIVATIONS
        for biased in (True, False)
    )
)
def forward_and_backward(
    dtype: torch.dtype, sizes: tuple[int, ...], activation: int, biased: bool
) -> None:
    batch, layers = 96, len(sizes) - 1
    inputs = draw(sizes, dtype, batch)[: None if biased else layers + 1]
    inputs[0].requires_grad_()  # else the module leaves the input's gradient unwritten
    with torch.no_grad():
        output, kept = mlp_cuda.forward(int(biased), activation, inputs)
        assert output.dtype == dtype
        biases = inputs[layers + 1 :] or [torch.zeros(())] * layers
        activations = [inputs[0]]
        expected = inputs[0].double()
        for weight, bias in zip(inputs[1 : layers + 1], biases):
            expected = expected @ weight.double().t() + bias.to("cuda").double()
            expected = ACTIVATIONS[activation](expected)
        near(output, expected, TOLERANCE[dtype], "output")
        activations += split(kept, sizes[1:-1], batch)
        activations.append(output)
        grad = torch.randn_like(output)
        grads = mlp_cuda.backward(int(biased), activation, grad, [output, kept], inputs)
        wanted = backward(grad, activations, inputs[1 : layers + 1], activation)
    for index, got in enumerate(grads):
        near(got, wanted[index], TOLERANCE[dtype], f"gradient {index} of {len(grads)}")


def split(kept: torch.Tensor, widths: tuple[int, ...], batch: int) -> list[torch.Tensor]:
    """The outputs of the inner layers, which the module lays one after the other in one buffer."""
    parts = kept[: batch * sum(widths)].split([batch * width for width in widths])
    return [part.view(batch, width) for part, width in zip(parts, widths)]


def backward(
    grad: torch.Tensor,
    activations: list[torch.Tensor],
    weights: list[torch.Tensor],
    activation: int,
) -> list[torch.Tensor]:
    """Gradients of input, weights and biases, in float64, from the layers' inputs and outputs."""
    grad = grad.double()
    by_weight: list[torch.Tensor] = []
    by_bias: list[torch.Tensor] = []
    for layer in reversed(range(len(weights))):
        grad = grad * SLOPES[activation](activations[layer + 1].double())
        by_weight.insert(0, grad.t() @ activations[layer].double())
        by_bias.insert(0, grad.sum(0))
        grad = grad @ weights[layer].double()
    return [grad, *by_weight, *by_bias]


if __name__ == "__main__":
    raise SystemExit(main("mlp_cuda"))
