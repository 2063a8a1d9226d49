"""Stand-in for the compiled module of this name: the same functions by torch's own operators.

For the Python-only wheel, where nothing was compiled. Shapes: `normalized_shape` ends the input's
shape; its product is n2, that of what comes before n1. Statistics have the shape (n1,), and the
input's dtype, float32 for halves. Every result is a fresh tensor.

As in the compiled module the normalized value is rounded to the output's dtype first, and weight
and bias are applied in that; `memory_efficient` computes it back from the output, with weights
kept `eps` away from zero. Without `memory_efficient` the backward functions have the signatures
that they had before it came.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__apex_fallback__ = True
_HALVES = (torch.float16, torch.bfloat16)
_RMS = getattr(torch.ops.aten, "_fused_rms_norm", None)
"""torch's own fused kernel, which hands out the statistics too; since torch 2.9."""

warnings.warn(
    "fused_layer_norm_cuda is a stand-in of the Python-only apex: the same results by torch's own "
    "operators, slower than the compiled module; apex-install doctor says what would bring that",
    stacklevel=2,
)


def _statistics_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype in _HALVES else tensor.dtype


def _rows(tensor: Tensor, normalized_shape: Sequence[int]) -> Tensor:
    """(n1, n2), in the statistics' dtype."""
    return tensor.reshape(-1, prod(normalized_shape)).to(_statistics_dtype(tensor))


def _shaped(rows: Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    return rows.to(dtype).reshape(like.shape)


def _layer_norm(
    tensor: Tensor, normalized_shape: Sequence[int], eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    rows = _rows(tensor, normalized_shape)
    variance, mean = torch.var_mean(rows, dim=1, unbiased=False)
    invvar = torch.rsqrt(variance + eps)
    normalized = (rows - mean[:, None]) * invvar[:, None]
    return _shaped(normalized, tensor, dtype), mean, invvar


def _rms_norm(
    tensor: Tensor, normalized_shape: Sequence[int], eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    if _RMS is not None and tensor.is_cuda and tensor.dtype == dtype:
        normalized, invvar = _RMS(tensor, list(normalized_shape), None, eps)
        return normalized, invvar.reshape(-1)
    rows = _rows(tensor, normalized_shape)
    invvar = torch.rsqrt(rows.square().mean(dim=1) + eps)
    return _shaped(rows * invvar[:, None], tensor, dtype), invvar


def _scaled(normalized: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Weight and bias, each rounded to the normalized value's dtype, applied in it."""
    scaled = weight.to(normalized.dtype) * normalized
    return scaled if bias is None else scaled + bias.to(normalized.dtype)


@torch.no_grad()
def forward(tensor: Tensor, normalized_shape: Sequence[int], eps: float) -> list[Tensor]:
    """[output, mean, invvar]."""
    return list(_layer_norm(tensor, normalized_shape, eps, tensor.dtype))


@torch.no_grad()
def forward_affine(
    tensor: Tensor, normalized_shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float
) -> list[Tensor]:
    """[output in the input's dtype, mean, invvar]."""
    normalized, mean, invvar = _layer_norm(tensor, normalized_shape, eps, tensor.dtype)
    return [_scaled(normalized, weight, bias), mean, invvar]


@torch.no_grad()
def forward_affine_mixed_dtypes(
    tensor: Tensor, normalized_shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float
) -> list[Tensor]:
    """[output in the weight's dtype, mean, invvar]."""
    normalized, mean, invvar = _layer_norm(tensor, normalized_shape, eps, weight.dtype)
    return [_scaled(normalized, weight, bias), mean, invvar]


@torch.no_grad()
def rms_forward(tensor: Tensor, normalized_shape: Sequence[int], eps: float) -> list[Tensor]:
    """[output, invvar]."""
    return list(_rms_norm(tensor, normalized_shape, eps, tensor.dtype))


@torch.no_grad()
def rms_forward_affine(
    tensor: Tensor, normalized_shape: Sequence[int], weight: Tensor, eps: float
) -> list[Tensor]:
    """[output in the input's dtype, invvar]."""
    normalized, invvar = _rms_norm(tensor, normalized_shape, eps, tensor.dtype)
    return [_scaled(normalized, weight), invvar]


@torch.no_grad()
def rms_forward_affine_mixed_dtypes(
    tensor: Tensor, normalized_shape: Sequence[int], weight: Tensor, eps: float
) -> list[Tensor]:
    """[output in the weight's dtype, invvar]."""
    normalized, invvar = _rms_norm(tensor, normalized_shape, eps, weight.dtype)
    return [_scaled(normalized, weight), invvar]


def _away_from_zero(weight: Tensor, eps: float) -> Tensor:
    return torch.where(weight >= 0, weight.clamp(min=eps), weight.clamp(max=-eps))


def _normalized(
    kept: Tensor,
    normalized_shape: Sequence[int],
    *,
    mean: Tensor | None,
    invvar: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    is_output: bool,
) -> Tensor:
    """The normalized rows (n1, n2), from the input or back from the output."""
    rows = _rows(kept, normalized_shape).to(invvar.dtype)
    if not is_output:
        centred = rows if mean is None else rows - mean[:, None]
        return centred * invvar[:, None]
    if bias is not None:
        rows = rows - bias.reshape(-1).to(rows.dtype)
    if weight is not None:
        rows = rows / _away_from_zero(weight.reshape(-1).to(rows.dtype), eps)
    return rows


def _backward(
    grad_out: Tensor,
    normalized: Tensor,
    invvar: Tensor,
    kept: Tensor,
    normalized_shape: Sequence[int],
    *,
    weight: Tensor | None,
    centred: bool,
) -> tuple[Tensor, Tensor]:
    """(gradient of the input, incoming gradient as rows)."""
    incoming = grad_out.reshape(-1, prod(normalized_shape)).to(invvar.dtype)
    scaled = incoming if weight is None else incoming * weight.reshape(-1).to(incoming.dtype)
    rest = scaled - normalized * (scaled * normalized).mean(dim=1, keepdim=True)
    if centred:
        rest = rest - scaled.mean(dim=1, keepdim=True)
    return _shaped(rest * invvar[:, None], kept, kept.dtype), incoming


@torch.no_grad()
def backward(
    grad_out: Tensor,
    mean: Tensor | None,
    invvar: Tensor,
    input_or_output: Tensor,
    normalized_shape: Sequence[int],
    eps: float,
    memory_efficient: bool = False,
) -> Tensor:
    """The gradient of the input."""
    normalized = _normalized(
        input_or_output,
        normalized_shape,
        mean=mean,
        invvar=invvar,
        weight=None,
        bias=None,
        eps=eps,
        is_output=memory_efficient,
    )
    return _backward(
        grad_out, normalized, invvar, input_or_output, normalized_shape, weight=None, centred=True
    )[0]


@torch.no_grad()
def backward_affine(
    grad_out: Tensor,
    mean: Tensor | None,
    invvar: Tensor,
    input_or_output: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor,
    bias: Tensor,
    eps: float,
    memory_efficient: bool = False,
) -> list[Tensor]:
    """[gradient of the input, of the weight, of the bias]."""
    normalized = _normalized(
        input_or_output,
        normalized_shape,
        mean=mean,
        invvar=invvar,
        weight=weight,
        bias=bias,
        eps=eps,
        is_output=memory_efficient,
    )
    grad_input, incoming = _backward(
        grad_out,
        normalized,
        invvar,
        input_or_output,
        normalized_shape,
        weight=weight,
        centred=True,
    )
    grad_weight = _shaped((incoming * normalized).sum(dim=0), weight, weight.dtype)
    return [grad_input, grad_weight, _shaped(incoming.sum(dim=0), bias, bias.dtype)]


@torch.no_grad()
def rms_backward(
    grad_out: Tensor,
    invvar: Tensor,
    input_or_output: Tensor,
    normalized_shape: Sequence[int],
    eps: float,
    memory_efficient: bool = False,
) -> Tensor:
    """The gradient of the input."""
    normalized = _normalized(
        input_or_output,
        normalized_shape,
        mean=None,
        invvar=invvar,
        weight=None,
        bias=None,
        eps=eps,
        is_output=memory_efficient,
    )
    return _backward(
        grad_out, normalized, invvar, input_or_output, normalized_shape, weight=None, centred=False
    )[0]


@torch.no_grad()
def rms_backward_affine(
    grad_out: Tensor,
    invvar: Tensor,
    input_or_output: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor,
    eps: float,
    memory_efficient: bool = False,
) -> list[Tensor]:
    """[gradient of the input, of the weight]."""
    normalized = _normalized(
        input_or_output,
        normalized_shape,
        mean=None,
        invvar=invvar,
        weight=weight,
        bias=None,
        eps=eps,
        is_output=memory_efficient,
    )
    grad_input, incoming = _backward(
        grad_out,
        normalized,
        invvar,
        input_or_output,
        normalized_shape,
        weight=weight,
        centred=False,
    )
    return [grad_input, _shaped((incoming * normalized).sum(dim=0), weight, weight.dtype)]
