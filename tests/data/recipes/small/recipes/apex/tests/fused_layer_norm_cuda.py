"""Test of fused_layer_norm_cuda: both norms, forward and backward, against torch in float64."""

import itertools
import json
import sys
import time
from pathlib import Path

import torch

if Path(sys.path[0], "fused_layer_norm_cuda.py").is_file():  # this file bears the module's name
    del sys.path[0]

import fused_layer_norm_cuda
from apex.normalization import FusedLayerNorm, FusedRMSNorm

ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
SHAPES = ((4, 128), (3, 5, 96), (2, 1000), (7, 2560))
EPS = 1e-5


def reference(x, weight, bias, *, centered):
    """The norm in float64, by its definition."""
    if centered:
        x = x - x.mean(-1, keepdim=True)
    y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def near(actual, expected, dtype, what):
    """Whether two tensors are equal but for a few roundings."""
    error = (actual.double() - expected).norm() / expected.norm()
    limit = max(4 * ROUNDING[dtype], 2e-5)
    assert error <= limit, f"{what}: error {error:.1e}, at most {limit:.1e}"


def check_norm(kind, shape, dtype, affine, memory_efficient):
    """Forward and backward of one class in one setting."""
    norm = kind(shape[-1], eps=EPS, elementwise_affine=affine, memory_efficient=memory_efficient)
    norm = norm.cuda().to(dtype)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5)
    # A transposed input: what callers hand over is not contiguous in general.
    x = torch.randn(*shape[:-2], shape[-1], shape[-2], device="cuda", dtype=dtype).transpose(-1, -2)
    x.requires_grad_()
    parameters = dict(norm.named_parameters())
    wide = {name: p.detach().double().requires_grad_() for name, p in parameters.items()}
    wide_x = x.detach().double().requires_grad_()
    y = norm(x)
    expected = reference(
        wide_x, wide.get("weight"), wide.get("bias"), centered=kind is FusedLayerNorm
    )
    assert y.dtype == dtype, f"output is {y.dtype}"
    assert y.data_ptr() != x.data_ptr(), "output is the input"
    near(y, expected, dtype, "forward")
    grad = torch.randn_like(y)
    y.backward(grad)
    expected.backward(grad.double())
    near(x.grad, wide_x.grad, dtype, "gradient of the input")
    for name, parameter in parameters.items():
        near(parameter.grad, wide[name].grad, dtype, f"gradient of {name}")


def check_autocast():
    """Under autocast the kernels see and return its dtype."""
    with torch.autocast("cuda", torch.bfloat16):
        y = FusedRMSNorm(128).cuda()(torch.randn(4, 128, device="cuda"))
    assert y.dtype == torch.bfloat16, f"output is {y.dtype}"


def check_functions():
    """The names that other packages call."""
    x, weight = torch.randn(4, 96, device="cuda"), torch.rand(96, device="cuda")
    output, inv_rms = fused_layer_norm_cuda.rms_forward_affine(x, [96], weight, EPS)
    near(output, reference(x.double(), weight.double(), None, centered=False), x.dtype, "rms")
    assert inv_rms.shape == (4,), f"statistics of shape {tuple(inv_rms.shape)}"


def checks():
    """Every check as a function and its arguments."""
    kinds, flags = (FusedRMSNorm, FusedLayerNorm), (False, True)
    yield from (
        (check_norm, case) for case in itertools.product(kinds, SHAPES, ROUNDING, flags, flags)
    )
    yield check_autocast, ()
    yield check_functions, ()


def main():
    """Print one line of JSON; 0 if nothing failed."""
    if not torch.cuda.is_available():
        print(json.dumps({"module": "fused_layer_norm_cuda", "skipped": "no GPU"}))
        return 0
    started, passed, errors = time.monotonic(), 0, []
    for check, case in checks():
        torch.manual_seed(passed)
        try:
            check(*case)
            torch.cuda.synchronize()
            passed += 1
        except Exception as error:  # noqa: BLE001 - every kind of failure is a result here
            errors.append(f"{check.__name__}{case}: {type(error).__name__}: {error}")
    result = {
        "module": "fused_layer_norm_cuda",
        "passed": passed,
        "failed": len(errors),
        "first_error": errors[0] if errors else None,
        "seconds": round(time.monotonic() - started, 3),
        "gpu": torch.cuda.get_device_name(),
        "driver": None,
    }
    print(json.dumps(result))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
