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
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

__apex_fallback__ = True
_COST = "0.5 to 1.6 times the compiled module's time, by shape, on an H100"
"""As measured by benchmarks/standins.py."""
_HALVES = (torch.float16, torch.bfloat16)

warnings.warn(
    "fused_layer_norm_cuda is a stand-in of the Python-only apex: the same results by torch's own "
    f"operators, {_COST}; apex-install doctor says what would bring that",
    stacklevel=2,
)


def _fused(name: str) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """RMS norm by torch's kernel of that name, with statistics: torch 2.9 is the first to have it.

    Some before it have one of that name without statistics.
    """
    found = getattr(torch.ops.aten, name, None)
    return found if found is not None and len(found.default._schema.returns) > 1 else None


_RMS = _fused("_fused_rms_norm")
_RMS_BACKWARD = _fused("_fused_rms_norm_backward")
"""On CUDA alone."""


def _statistics_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype in _HALVES else tensor.dtype


def _rows(tensor: Tensor, normalized_shape: Sequence[int]) -> Tensor:
    """(n1, n2)."""
    return tensor.reshape(-1, prod(normalized_shape))


def _as_read(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """What torch's kernel must read, so that its result in `dtype` was rounded only once.

    On a CPU it would round the statistics of halves, too.
    """
    rounds_once = tensor.dtype == dtype and (tensor.is_cuda or dtype not in _HALVES)
    return tensor if rounds_once else tensor.to(_statistics_dtype(tensor))


def _goes_within(read: Tensor, dtype: torch.dtype) -> bool:
    """Whether the kernel may apply weight and bias: not where it would leave out a rounding."""
    return dtype not in _HALVES and read.dtype == dtype


def _layer_norm(
    tensor: Tensor,
    normalized_shape: Sequence[int],
    eps: float,
    dtype: torch.dtype,
    scale: tuple[Tensor, Tensor] | None = None,
) -> list[Tensor]:
    """[output in `dtype`, mean, invvar]; `scale`: weight and bias."""
    read = _as_read(tensor, dtype)
    weight, bias = (one.to(dtype) for one in scale) if scale else (None, None)
    within = (weight, bias) if _goes_within(read, dtype) else (None, None)
    output, mean, invvar = torch.native_layer_norm(read, list(normalized_shape), *within, eps)
    output = output.to(dtype)
    if weight is not None and within[0] is None:
        output.mul_(weight).add_(bias)
    return [output, mean.reshape(-1), invvar.reshape(-1)]


def _rms_norm(
    tensor: Tensor,
    normalized_shape: Sequence[int],
    eps: float,
    dtype: torch.dtype,
    scale: Tensor | None = None,
) -> list[Tensor]:
    """[output in `dtype`, invvar]; `scale`: the weight."""
    read = _as_read(tensor, dtype)
    weight = None if scale is None else scale.to(dtype)
    within = None
    if _RMS is None:
        output, invvar = _rms_norm_in_two(tensor, normalized_shape, eps, dtype)
    else:
        within = weight if _goes_within(read, dtype) else None
        output, invvar = _RMS(read, list(normalized_shape), within, eps)
    output = output.to(dtype)
    if weight is not None and within is None:
        output.mul_(weight)
    return [output, invvar.reshape(-1)]


def _rms_norm_in_two(
    tensor: Tensor, normalized_shape: Sequence[int], eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Two passes over the input, each of which converts as it reads and writes."""
    rows = _rows(tensor, normalized_shape)
    norms = torch.linalg.vector_norm(rows, dim=1, dtype=_statistics_dtype(tensor))
    invvar = norms.square_().div_(prod(normalized_shape)).add_(eps).rsqrt_()
    output = torch.empty(tensor.shape, dtype=dtype, device=tensor.device)
    torch.mul(rows, invvar[:, None], out=output.view(rows.shape))
    return output, invvar


@torch.no_grad()
def forward(tensor: Tensor, normalized_shape: Sequence[int], eps: float) -> list[Tensor]:
    """[output, mean, invvar]."""
    return _layer_norm(tensor, normalized_shape, eps, tensor.dtype)


@torch.no_grad()
def forward_affine(
    tensor: Tensor, normalized_shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float
) -> list[Tensor]:
    """[output in the input's dtype, mean, invvar]."""
    return _layer_norm(tensor, normalized_shape, eps, tensor.dtype, (weight, bias))


@torch.no_grad()
def forward_affine_mixed_dtypes(
    tensor: Tensor, normalized_shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float
) -> list[Tensor]:
    """[output in the weight's dtype, mean, invvar]."""
    return _layer_norm(tensor, normalized_shape, eps, weight.dtype, (weight, bias))


@torch.no_grad()
def rms_forward(tensor: Tensor, normalized_shape: Sequence[int], eps: float) -> list[Tensor]:
    """[output, invvar]."""
    return _rms_norm(tensor, normalized_shape, eps, tensor.dtype)


@torch.no_grad()
def rms_forward_affine(
    tensor: Tensor, normalized_shape: Sequence[int], weight: Tensor, eps: float
) -> list[Tensor]:
    """[output in the input's dtype, invvar]."""
    return _rms_norm(tensor, normalized_shape, eps, tensor.dtype, weight)


@torch.no_grad()
def rms_forward_affine_mixed_dtypes(
    tensor: Tensor, normalized_shape: Sequence[int], weight: Tensor, eps: float
) -> list[Tensor]:
    """[output in the weight's dtype, invvar]."""
    return _rms_norm(tensor, normalized_shape, eps, weight.dtype, weight)


class _Kept(NamedTuple):
    """What the forward pass left for the backward pass."""

    tensor: Tensor
    """The input, or with `is_output` the output."""
    normalized_shape: Sequence[int]
    mean: Tensor | None
    """None for RMS, and with `is_output`."""
    invvar: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    is_output: bool
    centred: bool
    """Layer norm; else RMS."""


def _away_from_zero(weight: Tensor, eps: float) -> Tensor:
    return torch.where(weight >= 0, weight.clamp(min=eps), weight.clamp(max=-eps))


def _normalized(kept: _Kept) -> Tensor:
    """The normalized rows (n1, n2), from the input or back from the output."""
    rows = _rows(kept.tensor, kept.normalized_shape).to(kept.invvar.dtype)
    if not kept.is_output:
        centred = rows if kept.mean is None else rows - kept.mean[:, None]
        return centred * kept.invvar[:, None]
    if kept.bias is not None:
        rows = rows - kept.bias.reshape(-1).to(rows.dtype)
    if kept.weight is not None:
        rows = rows / _away_from_zero(kept.weight.reshape(-1).to(rows.dtype), kept.eps)
    return rows


def _gradients(grad_out: Tensor, kept: _Kept) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of input, weight and bias; of the latter two where there are such."""
    if _has_own(grad_out, kept):
        return _own_gradients(grad_out, kept)
    weight, bias = kept.weight, kept.bias
    normalized = _normalized(kept)
    incoming = _rows(grad_out, kept.normalized_shape).to(kept.invvar.dtype)
    scaled = incoming if weight is None else incoming * weight.reshape(-1).to(incoming.dtype)
    rest = scaled - normalized * (scaled * normalized).mean(dim=1, keepdim=True)
    if kept.centred:
        rest = rest - scaled.mean(dim=1, keepdim=True)
    of_weight, of_bias = (
        None if one is None else sums.sum(dim=0).to(one.dtype).reshape(one.shape)
        for one, sums in ((weight, incoming * normalized), (bias, incoming))
    )
    of_input = (rest * kept.invvar[:, None]).to(kept.tensor.dtype).reshape(kept.tensor.shape)
    return of_input, of_weight, of_bias


def _has_own(grad_out: Tensor, kept: _Kept) -> bool:
    """Whether torch's own backward kernel reads these: of one dtype, kept from the input."""
    tensor, weight = kept.tensor, kept.weight
    alike = grad_out.dtype == tensor.dtype and (weight is None or weight.dtype == tensor.dtype)
    if kept.is_output or not alike:
        return False
    if not kept.centred:
        return tensor.is_cuda and _RMS_BACKWARD is not None
    return tensor.is_cuda or tensor.dtype not in _HALVES


def _own_gradients(grad_out: Tensor, kept: _Kept) -> tuple[Tensor, Tensor | None, Tensor | None]:
    shape = list(kept.normalized_shape)
    of_rows = (*kept.tensor.shape[: kept.tensor.dim() - len(shape)], *(1 for _ in shape))
    read, invvar = (grad_out, kept.tensor, shape), kept.invvar.reshape(of_rows)
    affine = kept.weight is not None
    if not kept.centred and _RMS_BACKWARD is not None:
        of_input, of_weight = _RMS_BACKWARD(*read, invvar, kept.weight, [True, affine])
        return of_input, of_weight if affine else None, None
    mean = invvar.new_zeros(of_rows) if kept.mean is None else kept.mean.reshape(of_rows)
    of_input, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
        *read, mean, invvar, kept.weight, kept.bias, [True, affine, affine]
    )
    return of_input, of_weight if affine else None, of_bias if affine else None


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
    kept = _Kept(
        tensor=input_or_output,
        normalized_shape=normalized_shape,
        mean=mean,
        invvar=invvar,
        weight=None,
        bias=None,
        eps=eps,
        is_output=memory_efficient,
        centred=True,
    )
    return _gradients(grad_out, kept)[0]


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
    kept = _Kept(
        tensor=input_or_output,
        normalized_shape=normalized_shape,
        mean=mean,
        invvar=invvar,
        weight=weight,
        bias=bias,
        eps=eps,
        is_output=memory_efficient,
        centred=True,
    )
    return [one for one in _gradients(grad_out, kept) if one is not None]


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
    kept = _Kept(
        tensor=input_or_output,
        normalized_shape=normalized_shape,
        mean=None,
        invvar=invvar,
        weight=None,
        bias=None,
        eps=eps,
        is_output=memory_efficient,
        centred=False,
    )
    return _gradients(grad_out, kept)[0]


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
    kept = _Kept(
        tensor=input_or_output,
        normalized_shape=normalized_shape,
        mean=None,
        invvar=invvar,
        weight=weight,
        bias=None,
        eps=eps,
        is_output=memory_efficient,
        centred=False,
    )
    return [one for one in _gradients(grad_out, kept) if one is not None]
