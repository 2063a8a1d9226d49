"""Stand-in for the compiled module of this name: its list functions by torch's own operators.

For the Python-only wheel, where nothing was compiled. It holds what FusedAdam, FusedSGD, FusedLAMB,
clip_grad_norm_ and apex.amp's loss scaler call; what it lacks raises ImportError when it is asked
for (`hasattr` too: an ImportError is what callers of compiled modules look out for).

All functions: `tensor_lists` holds lists of tensors of equal lengths, the k-th tensors of equal
sizes; `noop_flag` is one int32. Arithmetic is in float32 whatever the tensors are, results are
rounded once and written into the lists' tensors. `chunk_size` splits a kernel's work and means
nothing here. Nothing waits for a GPU, but `multi_tensor_sgd` where torch's own step does not do
what is asked: it reads its flag.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

__apex_fallback__ = True
_COST = "1.2 to 3.0 times the compiled module's time per step on an H100"
"""As measured by benchmarks/standins.py."""
_ABSENT = {
    "multi_tensor_adagrad": "FusedAdagrad",
    "multi_tensor_novograd": "FusedNovoGrad",
    "multi_tensor_lamb_mp": "FusedMixedPrecisionLamb",
    "multi_tensor_l2norm_mp": "FusedMixedPrecisionLamb",
    "multi_tensor_l2norm_scale": "DistributedFusedLAMB",
    "multi_tensor_unscale_l2norm": "",
    "multi_tensor_lamb_stage1_cuda": "",
    "multi_tensor_lamb_stage2_cuda": "",
    "update_scale_hysteresis": "",
}
"""Functions of the compiled module that nothing stands for, and the classes that call them."""
_AT_ONCE = 1 << 27
"""Elements, of one list, whose copies in float32 are held at the same time."""
_DECOUPLED = 1
"""Adam's and LAMB's mode that applies weight decay apart from the gradient; 0: within it."""
_HALVES = (torch.float16, torch.bfloat16)
_NORM_WIDENS = any(
    argument.name == "dtype" for argument in torch.ops.aten._foreach_norm.Scalar._schema.arguments
)
"""Whether torch takes norms of halves in float32 without a copy."""
_told: list[str] = []


def __getattr__(name: str) -> object:
    if name not in _ABSENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    user = f", which {_ABSENT[name]} needs" if _ABSENT[name] else ""
    raise ImportError(
        f"the Python-only apex has no {name}{user}: its {__name__} is a stand-in for Adam, SGD, "
        "LAMB and gradient clipping; the compiled module has it: run apex-install --at-least "
        f"compiled --require {__name__} where it finds a wheel or a compiler",
        name=__name__,
    )


def _begin(tensor_lists: Sequence[Sequence[Tensor]]) -> None:
    """Say once what this is; RuntimeError for lists that do not belong together.

    Not at import: `import apex` imports this module for every user of anything else in apex.
    """
    if not _told:
        _told.append(__name__)
        warnings.warn(
            f"{__name__} is a stand-in of the Python-only apex: the same results by torch's own "
            f"operators, {_COST}; apex-install doctor says what would bring that",
            stacklevel=4,
        )
    first = tensor_lists[0]
    for others in tensor_lists[1:]:
        if len(others) != len(first):
            raise RuntimeError(f"lists of {len(first)} and of {len(others)} tensors")
        for one, other in zip(first, others):
            if one.numel() != other.numel():
                raise RuntimeError(f"tensors of {one.numel()} and of {other.numel()} elements")
            if one.device != other.device:
                raise RuntimeError(f"{other.device} and {one.device}: not on the same device")


def _batches(
    tensor_lists: Sequence[Sequence[Tensor]], *, whole: bool = False
) -> Iterator[list[list[Tensor]]]:
    """The lists in parts of about _AT_ONCE elements; `whole`: no tensor is cut."""
    batch: list[list[Tensor]] = [[] for _ in tensor_lists]
    held = 0
    for row in zip(*tensor_lists):
        for parts in [row] if whole else _cut(row):
            size = parts[0].numel()
            if held and held + size > _AT_ONCE:
                yield batch
                batch, held = [[] for _ in tensor_lists], 0
            for tensors, part in zip(batch, parts):
                tensors.append(part)
            held += size
    if batch[0]:
        yield batch


def _cut(row: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """One tensor of each list, or views of them; nothing of an empty one."""
    size = row[0].numel()
    if size <= _AT_ONCE or not all(tensor.is_contiguous() for tensor in row):
        return [row] if size else []
    flat = [tensor.view(-1) for tensor in row]
    return [
        tuple(tensor[start : start + _AT_ONCE] for tensor in flat)
        for start in range(0, size, _AT_ONCE)
    ]


def _copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Rounded where dtypes differ; a target that is its source is left alone."""
    pairs = [(to, of) for to, of in zip(targets, sources) if to is not of]
    alike = all(to.shape == of.shape for to, of in pairs)
    if pairs and alike and hasattr(torch, "_foreach_copy_"):
        torch._foreach_copy_([to for to, _ in pairs], [of for _, of in pairs])
        return
    for to, of in pairs:
        to.copy_(of.reshape(to.shape))


def _single(tensors: Sequence[Tensor], likes: Sequence[Tensor] | None = None) -> list[Tensor]:
    """In float32, laid out as `likes`: the tensors themselves where they are, else copies."""
    found = [
        tensor
        if tensor.dtype == torch.float32
        and tensor.shape == like.shape
        and tensor.stride() == like.stride()
        else torch.empty_like(like, dtype=torch.float32)
        for tensor, like in zip(tensors, likes or tensors)
    ]
    _copy(found, tensors)
    return found


def _multiply(tensors: Sequence[Tensor], factor: float | Tensor) -> None:
    """In place, by a number or by a tensor of one element."""
    if isinstance(factor, torch.Tensor):
        factor = factor.reshape(()).to(tensors[0].device, torch.float32)
        if "Tensor" not in torch.ops.aten._foreach_mul_.overloads():
            for tensor in tensors:
                tensor.mul_(factor)
            return
    torch._foreach_mul_(tensors, factor)


def _set_where(noop_flag: Tensor, values: Tensor) -> None:
    """Set the flag if one of the values is not finite."""
    bad = values.isfinite().all().logical_not()
    noop_flag.masked_fill_(bad.to(noop_flag.device), 1)


def _report(noop_flag: Tensor, tensors: Sequence[Tensor]) -> None:
    """Set the flag if an element is not finite: a largest magnitude tells, and cannot overflow."""
    norms = torch._foreach_norm(tensors, math.inf)
    _set_where(noop_flag, torch.stack([norm.float() for norm in norms]))


def _norms(tensors: Sequence[Tensor], noop_flag: Tensor) -> Tensor:
    """The L2 norm of each, float32, shape (number of tensors,); the flag as `_set_where`."""
    found: list[Tensor] = []
    for (batch,) in _batches([tensors], whole=True):
        if _NORM_WIDENS and all(tensor.dtype in _HALVES for tensor in batch):
            found += torch._foreach_norm(batch, 2, dtype=torch.float32)
        else:
            found += torch._foreach_norm(_single(batch))
    norms = torch.stack(found)
    _set_where(noop_flag, norms)
    return norms


@torch.no_grad()
def multi_tensor_scale(
    chunk_size: int,
    noop_flag: Tensor,
    tensor_lists: Sequence[Sequence[Tensor]],
    scale: float | Tensor,
) -> None:
    """Make outputs = scale * inputs. The flag is set where an input is not finite.

    `tensor_lists`: inputs, outputs.
    """
    _begin(tensor_lists)
    for inputs, outputs in _batches(tensor_lists):
        _report(noop_flag, inputs)
        scaled = [
            output if output.dtype == torch.float32 else torch.empty_like(output, dtype=torch.float)
            for output in outputs
        ]
        _copy(scaled, inputs)
        _multiply(scaled, scale)
        _copy(outputs, scaled)


@torch.no_grad()
def multi_tensor_axpby(
    chunk_size: int,
    noop_flag: Tensor,
    tensor_lists: Sequence[Sequence[Tensor]],
    a: float,
    b: float,
    arg_to_check: int,
) -> None:
    """Make outputs = a * xs + b * ys. The flag is set where a checked argument is not finite.

    `tensor_lists`: xs, ys, outputs. `arg_to_check`: 0 is xs, 1 is ys, -1 both.
    """
    _begin(tensor_lists)
    for xs, ys, outputs in _batches(tensor_lists):
        for number, tensors in enumerate((xs, ys)):
            if arg_to_check in (number, -1):
                _report(noop_flag, tensors)
        sums = torch._foreach_mul(_single(xs), a)
        torch._foreach_add_(sums, _single(ys, xs), alpha=b)
        _copy(outputs, sums)


@torch.no_grad()
def multi_tensor_l2norm(
    chunk_size: int,
    noop_flag: Tensor,
    tensor_lists: Sequence[Sequence[Tensor]],
    per_tensor: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """(norm of all, shape (1,); norm of each, or an empty tensor unless `per_tensor`), float32.

    The flag is set where a norm is not finite.
    """
    _begin(tensor_lists)
    norms = _norms(tensor_lists[0], noop_flag)
    return torch.linalg.vector_norm(norms).reshape(1), norms if per_tensor else norms.new_empty(0)


@torch.no_grad()
def multi_tensor_sgd(
    chunk_size: int,
    noop_flag: Tensor,
    tensor_lists: Sequence[Sequence[Tensor]],
    wd: float,
    momentum: float,
    dampening: float,
    lr: float,
    nesterov: bool,
    first_run: bool,
    wd_after_momentum: bool,
    scale: float,
) -> None:
    """One step of SGD; nothing where the flag is set. Gradients are read times `scale`.

    `tensor_lists`: gradients, weights, momenta, and if there are four the model's own weights,
    which become the new weights rounded. `first_run`: momenta begin as the gradients.
    """
    _begin(tensor_lists)
    told = _Sgd(wd, momentum, dampening, lr, nesterov, first_run, bool(wd) and wd_after_momentum)
    fused = _is_plain(tensor_lists) and scale == 1 and not told.late
    if fused and _has_fused("_fused_sgd_", noop_flag):
        for grads, params, momenta in _batches(tensor_lists):
            _step_sgd_fused(_single(grads, params), params, momenta, told, noop_flag)
    elif not noop_flag.item():
        for grads, params, momenta, *models in _batches(tensor_lists):
            slopes = _single(grads, params)
            if scale != 1:
                slopes = torch._foreach_mul(slopes, scale)
            weights = _step_sgd(slopes, params, momenta, told)
            for model in models:
                _copy(model, weights)


class _Sgd(NamedTuple):
    """What a step of SGD is told."""

    decay: float
    momentum: float
    dampening: float
    lr: float
    nesterov: bool
    first: bool
    late: bool
    """Weight decay after momentum."""


def _is_plain(tensor_lists: Sequence[Sequence[Tensor]]) -> bool:
    """Gradients, weights and momenta alone, the latter two in float32 and laid out alike."""
    return len(tensor_lists) == 3 and all(
        param.dtype == momentum.dtype == torch.float32 and param.stride() == momentum.stride()
        for param, momentum in zip(*tensor_lists[1:])
    )


def _step_sgd_fused(
    slopes: list[Tensor],
    params: list[Tensor],
    momenta: list[Tensor],
    told: _Sgd,
    noop_flag: Tensor,
) -> None:
    """By torch's own step, which reads the flag on the device."""
    torch.ops.aten._fused_sgd_(
        params,
        slopes,
        momenta if told.momentum else [],
        weight_decay=told.decay,
        momentum=told.momentum,
        lr=told.lr,
        dampening=told.dampening,
        nesterov=told.nesterov,
        maximize=False,
        is_first_step=told.first,
        found_inf=(noop_flag != 0).to(params[0].device, torch.float32).reshape(()),
    )


def _step_sgd(
    slopes: list[Tensor], params: list[Tensor], momenta: list[Tensor], told: _Sgd
) -> list[Tensor]:
    """The same by lists, with all that is asked of it; returns the weights in float32."""
    weights = _single(params)
    if told.decay and not told.late:
        slopes = torch._foreach_add(slopes, weights, alpha=told.decay)
    if told.momentum:
        means = _single(momenta, params)
        if told.first:
            _copy(means, slopes)
        else:
            torch._foreach_mul_(means, told.momentum)
            torch._foreach_add_(means, slopes, alpha=1 - told.dampening)
        _copy(momenta, means)
        slopes = torch._foreach_add(slopes, means, alpha=told.momentum) if told.nesterov else means
    if told.late:
        slopes = torch._foreach_add(slopes, weights, alpha=told.decay)
    steps = torch._foreach_mul(slopes, told.lr)
    # A half's step is rounded before it is added, too.
    steps = [step.to(param.dtype).float() for step, param in zip(steps, params)]
    torch._foreach_sub_(weights, steps)
    _copy(params, weights)
    return weights


class _Adam(NamedTuple):
    """What a step of Adam is told."""

    lr: float | Tensor
    beta1: float
    beta2: float
    eps: float
    step: float | Tensor
    mode: int
    bias_correction: int
    decay: float
    noop: Tensor | None = None
    """1 where the step must be left out; None: it never is."""

    def on(self, device: torch.device) -> _Adam:
        """With float32 numbers of that device; without bias correction it is step infinity."""

        def number(value: float | Tensor) -> Tensor:
            if isinstance(value, torch.Tensor):
                return value.reshape(()).to(device, torch.float32)
            # Filled on the device: a graph captures no copy from the host.
            return torch.full((), value, dtype=torch.float32, device=device)

        return self._replace(
            lr=number(self.lr) if isinstance(self.lr, torch.Tensor) else self.lr,
            step=number(self.step if self.bias_correction else math.inf),
            noop=None if self.noop is None else number(self.noop),
        )


def _has_fused(name: str, tensor: Tensor) -> bool:
    """Whether this torch has its own fused step for that device, with all that is asked of it."""
    operator = getattr(torch.ops.aten, name, None)
    return (
        operator is not None
        and "tensor_lr" in operator.overloads()
        and torch._C._dispatch_has_kernel_for_dispatch_key(
            f"aten::{name}", tensor.device.type.upper()
        )
    )


def _step_adam(
    grads: list[Tensor],
    params: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    told: _Adam,
) -> list[Tensor]:
    """One step; `grads` are float32, laid out as `params`. Returns the weights in float32."""
    lists = [_single(tensors, params) for tensors in (params, means, squares)]
    name = "_fused_adamw_" if told.mode == _DECOUPLED else "_fused_adam_"
    if _has_fused(name, params[0]):
        getattr(torch.ops.aten, name)(
            lists[0],
            grads,
            *lists[1:],
            [],
            [told.step] * len(params),
            lr=told.lr,
            beta1=told.beta1,
            beta2=told.beta2,
            weight_decay=told.decay,
            eps=told.eps,
            amsgrad=False,
            maximize=False,
            found_inf=told.noop,
        )
    else:
        for grad, weight, mean, square in zip(grads, *lists):
            _step_adam_singly(grad, weight, mean, square, told)
    for targets, sources in zip((params, means, squares), lists):
        _copy(targets, sources)
    return lists[0]


def _step_adam_singly(
    grad: Tensor, weight: Tensor, mean: Tensor, square: Tensor, told: _Adam
) -> None:
    """The same of one tensor, for a torch that has no such operator."""
    slope = grad if told.mode == _DECOUPLED else grad + told.decay * weight
    new_mean = told.beta1 * mean + (1 - told.beta1) * slope
    new_square = told.beta2 * square + (1 - told.beta2) * slope * slope
    bottom = (new_square / (1 - told.beta2**told.step)).sqrt() + told.eps
    update = new_mean / (1 - told.beta1**told.step) / bottom
    if told.mode == _DECOUPLED:
        update = update + told.decay * weight
    for old, new in ((weight, weight - told.lr * update), (mean, new_mean), (square, new_square)):
        old.copy_(new if told.noop is None else torch.where(told.noop == 1, old, new))


@torch.no_grad()
def multi_tensor_adam(
    chunk_size: int,
    noop_flag: Tensor,
    tensor_lists: Sequence[Sequence[Tensor]],
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: int,
    mode: int,
    bias_correction: int,
    weight_decay: float,
) -> None:
    """One step of Adam (mode 0) or AdamW (1), whatever the flag says.

    `tensor_lists`: gradients, weights, means, squares.
    """
    _begin(tensor_lists)
    given = _Adam(lr, beta1, beta2, epsilon, step, mode, bias_correction, weight_decay)
    for grads, params, means, squares in _batches(tensor_lists):
        told = given.on(params[0].device)
        _step_adam(_single(grads, params), params, means, squares, told)


@torch.no_grad()
def multi_tensor_adam_capturable(
    chunk_size: int,
    noop_flag: Tensor,
    tensor_lists: Sequence[Sequence[Tensor]],
    lr: Tensor,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: Tensor,
    mode: int,
    bias_correction: int,
    weight_decay: float,
    inv_scale: Tensor,
) -> None:
    """As `multi_tensor_adam`, nothing where the flag is 1; gradients become those times inv_scale.

    Learning rate, step, flag and scale are read on the device.
    """
    _begin(tensor_lists)
    given = _Adam(lr, beta1, beta2, epsilon, step, mode, bias_correction, weight_decay, noop_flag)
    for grads, params, means, squares in _batches(tensor_lists):
        told = given.on(params[0].device)
        _step_adam(_unscale(grads, params, inv_scale, told), params, means, squares, told)


@torch.no_grad()
def multi_tensor_adam_capturable_master(
    chunk_size: int,
    noop_flag: Tensor,
    tensor_lists: Sequence[Sequence[Tensor]],
    lr: Tensor,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: Tensor,
    mode: int,
    bias_correction: int,
    weight_decay: float,
    inv_scale: Tensor,
) -> None:
    """As `multi_tensor_adam_capturable`, on a fifth list: the weights in float32.

    The second list, the model's own weights, becomes the new weights rounded.
    """
    _begin(tensor_lists)
    given = _Adam(lr, beta1, beta2, epsilon, step, mode, bias_correction, weight_decay, noop_flag)
    for grads, models, means, squares, params in _batches(tensor_lists):
        told = given.on(params[0].device)
        slopes = _unscale(grads, params, inv_scale, told)
        weights = _step_adam(slopes, params, means, squares, told)
        for model, weight in zip(models, weights):
            # What a model holds need not be what its weights in float32 would round to.
            new = weight.reshape(model.shape).to(model.dtype)
            model.copy_(torch.where(told.noop == 1, model, new))


def _unscale(
    grads: Sequence[Tensor], likes: Sequence[Tensor], inv_scale: Tensor, told: _Adam
) -> list[Tensor]:
    """Gradients times inv_scale, in float32; rounded they are written back."""
    slopes = _single(grads, likes)
    inv_scale = inv_scale.reshape(()).to(slopes[0].device)
    _multiply(slopes, torch.where(told.noop == 1, torch.ones_like(inv_scale), inv_scale))
    _copy(grads, slopes)
    return slopes


@torch.no_grad()
def multi_tensor_lamb(
    chunk_size: int,
    noop_flag: Tensor,
    tensor_lists: Sequence[Sequence[Tensor]],
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: int,
    bias_correction: int,
    weight_decay: float,
    grad_averaging: int,
    mode: int,
    global_grad_norm: Tensor,
    max_grad_norm: float,
    use_nvlamb: bool | None = None,
) -> None:
    """One step of LAMB: Adam's update, per tensor at a rate in the ratio of the two norms.

    `tensor_lists`: gradients, weights, means, squares. Gradients are clipped to max_grad_norm, and
    become the updates. With `use_nvlamb` the ratio counts without weight decay too. The flag is
    set where a norm is not finite, and not asked.
    """
    _begin(tensor_lists)
    betas = (beta1, beta2, 1 - beta1 if grad_averaging else 1.0)
    corrections = (1 - beta1**step, 1 - beta2**step) if bias_correction else (1.0, 1.0)
    ones = torch.ones_like(global_grad_norm)
    clip = torch.where(global_grad_norm > max_grad_norm, max_grad_norm / global_grad_norm, ones)
    for grads, params, means, squares in _batches(tensor_lists, whole=True):
        weights = _single(params)
        slopes = _single(grads, params)
        _multiply(slopes, clip)
        if weight_decay and mode != _DECOUPLED:
            torch._foreach_add_(slopes, weights, alpha=weight_decay)
        updates = _advance(slopes, means, squares, betas, corrections, epsilon)
        if weight_decay and mode == _DECOUPLED:
            torch._foreach_add_(updates, weights, alpha=weight_decay)
        _copy(grads, updates)
        if use_nvlamb or weight_decay:
            kept, changed = _norms(params, noop_flag), _norms(grads, noop_flag)
            rates = torch.where((kept != 0) & (changed != 0), kept / changed, 1.0) * lr
            steps = torch._foreach_mul(_single(grads, params), list(rates.unbind()))
            torch._foreach_sub_(weights, steps)
        else:
            torch._foreach_add_(weights, _single(grads, params), alpha=-lr)
        _copy(params, weights)


def _advance(
    slopes: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    betas: tuple[float, float, float],
    corrections: tuple[float, float],
    eps: float,
) -> list[Tensor]:
    """Means and squares one step on; returns the update that they make, float32."""
    new_means, new_squares = _single(means, slopes), _single(squares, slopes)
    torch._foreach_mul_(new_means, betas[0])
    torch._foreach_add_(new_means, slopes, alpha=betas[2])
    torch._foreach_mul_(new_squares, betas[1])
    torch._foreach_addcmul_(new_squares, slopes, slopes, 1 - betas[1])
    _copy(means, new_means)
    _copy(squares, new_squares)
    bottoms = torch._foreach_div(new_squares, corrections[1])
    torch._foreach_sqrt_(bottoms)
    torch._foreach_add_(bottoms, eps)
    torch._foreach_mul_(bottoms, corrections[0])
    return list(torch._foreach_div(new_means, bottoms))
