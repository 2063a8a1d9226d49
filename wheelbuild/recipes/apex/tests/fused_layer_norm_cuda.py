"""Test of fused_layer_norm_cuda through apex.normalization, as models call it.

Forward and backward of RMS and layer norm, affine and not, saving input or output for the
backward, mixed types, autocast; the shapes of SeedVR's transformer among them: a q or k of
(tokens, heads, 128) that is a strided view into qkv. The reference computes in float64.
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
if Path(sys.path[0], "fused_layer_norm_cuda.py").is_file():
    del sys.path[0]

import fused_layer_norm_cuda
from apex.normalization import FusedLayerNorm, FusedRMSNorm, MixedFusedLayerNorm, MixedFusedRMSNorm

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

# fp16, bf16: the normalized value is rounded before weight and bias are applied, and after each of
# them: three roundings, of which none adds more than one unit. fp32: the kernels are compiled with
# --use_fast_math (approximate division and rsqrt) and sum up to 3,072 values in their own order.
TOLERANCE = {dtype: max(3 * unit, 1e-5) for dtype, unit in ROUNDING.items()}
EPS = 1e-5
HALVES = (torch.float16, torch.bfloat16)
KINDS = (FusedRMSNorm, FusedLayerNorm)
# Rows x normalized shape: SeedVR's block norms, less than a warp, not a multiple of the vector
# width, one row, a normalized shape of two dimensions.
SHAPES = (((300,), (2560,)), ((37,), (31,)), ((64, 3), (127,)), ((1,), (3072,)), ((5, 2), (4, 33)))


def reference(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    dims: int,
    *,
    centre: bool,
) -> torch.Tensor:
    """RMS norm or (`centre`) layer norm over the last `dims` dimensions, in float64."""
    over = tuple(range(-dims, 0))
    if centre:
        x = x - x.mean(over, keepdim=True)
    y = x * (x.pow(2).mean(over, keepdim=True) + EPS).rsqrt()
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def build(kind: type, shape: tuple[int, ...], dtype: torch.dtype, **options: bool) -> Any:
    """The norm with weights of its own: away from 0, by which a backward from outputs divides."""
    norm = kind(shape, eps=EPS, **options).to(device="cuda", dtype=dtype)
    with torch.no_grad():
        for name, parameter in norm.named_parameters():
            drawn = torch.rand(shape, device="cuda") / 2
            parameter.copy_(drawn + 0.75 if name == "weight" else drawn - 0.25)
    return norm


def compare(norm: Any, x: torch.Tensor, out_dtype: torch.dtype, *, slack: float = 1) -> None:
    """Forward and backward of `norm` on `x` against the reference, and what in-place users need."""
    x = x.detach().requires_grad_()
    before = x.detach().clone()
    output = norm(x)
    assert output.dtype == out_dtype, f"output is {output.dtype}, not {out_dtype}"
    wide = {name: p.detach().double().requires_grad_() for name, p in norm.named_parameters()}
    x64 = x.detach().double().requires_grad_()
    expected = reference(
        x64,
        wide.get("weight"),
        wide.get("bias"),
        len(norm.normalized_shape),
        centre=isinstance(norm, FusedLayerNorm),
    )
    near(output, expected, TOLERANCE[out_dtype], "output")
    grad = torch.randn_like(output)
    output.backward(grad)
    expected.backward(grad.double())
    coarse = slack * max(TOLERANCE[x.dtype], TOLERANCE[out_dtype])
    near(x.grad, x64.grad, coarse, "grad_input")
    for name, parameter in norm.named_parameters():
        near(parameter.grad, wide[name].grad, coarse, f"grad_{name}")
    assert torch.equal(x.detach(), before), "the input was changed"


@check(
    *(
        (kind, rows, shape, dtype, affine)
        for kind in KINDS
        for rows, shape in SHAPES
        for dtype in ROUNDING
        for affine in (True, False)
    )
)
def forward_and_backward(
    kind: type, rows: tuple[int, ...], shape: tuple[int, ...], dtype: torch.dtype, affine: bool
) -> None:
    norm = build(kind, shape, dtype, elementwise_affine=affine)
    compare(norm, torch.randn(*rows, *shape, device="cuda").to(dtype), dtype)


@check(*((kind, dtype, affine) for kind in KINDS for dtype in ROUNDING for affine in (True, False)))
def backward_from_outputs(kind: type, dtype: torch.dtype, affine: bool) -> None:
    """memory_efficient keeps the output and takes the normalized value back out of it."""
    norm = build(kind, (768,), dtype, elementwise_affine=affine, memory_efficient=True)
    # The rounding of the output comes back divided by weights of 0.5 and more.
    compare(norm, torch.randn(96, 768, device="cuda").to(dtype), dtype, slack=4)


@check(*((kind, dtype) for kind in (MixedFusedRMSNorm, MixedFusedLayerNorm) for dtype in HALVES))
def mixed_types(kind: type, dtype: torch.dtype) -> None:
    """Input in fp32, weights in half: the output has the weights' type, not the input's.

    The other way round (half input, fp32 weights) is a case that upstream's dispatch does not have.
    """
    compare(build(kind, (1024,), dtype), torch.randn(64, 1024, device="cuda"), dtype)


@check(*((kind, dtype, affine) for kind in KINDS for dtype in ROUNDING for affine in (True, False)))
def strided_heads(kind: type, dtype: torch.dtype, affine: bool) -> None:
    """SeedVR's q and k: (tokens, heads, 128), every third block of qkv, so not contiguous."""
    qkv = torch.randn(517, 3, 20, 128, device="cuda").to(dtype)
    for part in qkv.unbind(1)[:2]:
        assert not part.is_contiguous()
        compare(build(kind, (128,), dtype, elementwise_affine=affine), part, dtype)


@check(*((kind, dtype) for kind in KINDS for dtype in HALVES))
def unaligned_start(kind: type, dtype: torch.dtype) -> None:
    """Rows that start at an odd element, where loads of two halves at once are not allowed."""
    base = torch.randn(1 + 64 * 257, device="cuda").to(dtype)
    compare(build(kind, (257,), dtype), base[1:].view(64, 257), dtype)


@check(*((kind, dtype, affine) for kind in KINDS for dtype in HALVES for affine in (True, False)))
def autocast(kind: type, dtype: torch.dtype, affine: bool) -> None:
    """Under autocast fp32 input and weights are rounded first, and the output stays so."""
    norm = build(kind, (128,), torch.float32, elementwise_affine=affine)
    x = torch.randn(517, 3, 20, 128, device="cuda").unbind(1)[1]
    with torch.no_grad(), torch.autocast("cuda", dtype):
        output = norm(x)
    assert output.dtype == dtype
    weights = {name: p.detach().to(dtype).double() for name, p in norm.named_parameters()}
    expected = reference(
        x.to(dtype).double(),
        weights.get("weight"),
        weights.get("bias"),
        1,
        centre=kind is FusedLayerNorm,
    )
    near(output, expected, TOLERANCE[dtype], "output")


@check(*((kind, affine) for kind in KINDS for affine in (True, False)))
def output_is_fresh(kind: type, affine: bool) -> None:
    """Models write into the output in place: it must share nothing with input or weights."""
    norm = build(kind, (2560,), torch.bfloat16, elementwise_affine=affine)
    x = torch.randn(40, 2560, device="cuda", dtype=torch.bfloat16)
    kept = {id(t): t.detach().clone() for t in (x, *norm.parameters())}
    with torch.no_grad():
        output = norm(x)
        assert output.is_contiguous()
        output.mul_(3).add_(1)
    for tensor in (x, *norm.parameters()):
        assert tensor.untyped_storage().data_ptr() != output.untyped_storage().data_ptr()
        assert torch.equal(tensor, kept[id(tensor)])


@check()
def parameters_are_what_checkpoints_hold() -> None:
    """SeedVR loads with strict=True: `weight` where affine, nothing where not."""
    assert set(FusedRMSNorm(8).state_dict()) == {"weight"}
    assert set(FusedLayerNorm(8).state_dict()) == {"weight", "bias"}
    assert not FusedRMSNorm(8, elementwise_affine=False).state_dict()
    assert not FusedLayerNorm(8, elementwise_affine=False).state_dict()


@check(*((dtype,) for dtype in ROUNDING))
def statistics(dtype: torch.dtype) -> None:
    """What the module itself returns beside the output: fp32, one value per row."""
    x = (torch.randn(50, 640, device="cuda") + 0.5).to(dtype)
    wide = x.double()
    centred, mean, deviation = fused_layer_norm_cuda.forward(x, [640], EPS)
    plain, root = fused_layer_norm_cuda.rms_forward(x, [640], EPS)
    near(centred, reference(wide, None, None, 1, centre=True), TOLERANCE[dtype], "layer norm")
    near(plain, reference(wide, None, None, 1, centre=False), TOLERANCE[dtype], "RMS norm")
    assert mean.dtype == deviation.dtype == root.dtype == torch.float32
    near(mean, wide.mean(1), TOLERANCE[torch.float32], "mean")
    inverse = (wide.var(1, unbiased=False) + EPS).rsqrt()
    near(deviation, inverse, TOLERANCE[torch.float32], "inverse deviation")
    near(root, (wide.pow(2).mean(1) + EPS).rsqrt(), TOLERANCE[torch.float32], "inverse root")


if __name__ == "__main__":
    raise SystemExit(main("fused_layer_norm_cuda"))
