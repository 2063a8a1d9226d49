"""Test of amp_C: scaling, norms and optimizer steps over lists of tensors in few launches.

The reference steps each tensor in float64, in the order that each optimizer defines.
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
if Path(sys.path[0], "amp_C.py").is_file():
    del sys.path[0]

import amp_C
from apex.optimizers import FusedAdam

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

# Odd sizes take the kernels' element-wise path, multiples of 4 their vector path; the large ones
# span chunks. 120 tensors are more than one launch holds at any number of lists (110 at most).
SIZES = (1, 7, 64, 1000, 4096, 5003) * 20
CHUNK = 2048
# fp32: the kernels are compiled with --use_fast_math (approximate division and square root).
# Halves: rounded once.
TOLERANCE = {dtype: max(2 * unit, 1e-5) for dtype, unit in ROUNDING.items()}
SINGLE = TOLERANCE[torch.float32]
HALVES = (torch.float16, torch.bfloat16)
# Betas near 1 would make the bias corrections, computed in fp32 on the device, differences of
# nearly equal numbers.
LR, BETA1, BETA2, EPS, DECAY, STEP = 0.1, 0.8, 0.9, 1e-6, 0.05, 3
CORRECTION1, CORRECTION2 = 1 - BETA1**STEP, 1 - BETA2**STEP

Tensors = list[torch.Tensor]


def draw(dtype: torch.dtype = torch.float32, *, positive: bool = False) -> Tensors:
    """One list of fresh tensors."""
    parts = [torch.randn(size, device="cuda").to(dtype) for size in SIZES]
    return [part.abs() for part in parts] if positive else parts


def wide(tensors: Tensors) -> Tensors:
    """Copies in float64, taken before a kernel writes."""
    return [tensor.double() for tensor in tensors]


def flag() -> torch.Tensor:
    """What a kernel sets when it meets a value that is not finite."""
    return torch.zeros(1, dtype=torch.int32, device="cuda")


def number(value: float) -> torch.Tensor:
    """A setting that the capturable kernels read from the device."""
    return torch.tensor([value], dtype=torch.float32, device="cuda")


def near_all(actual: Tensors, expected: Tensors, tolerance: float, what: str) -> None:
    """All tensors of a list at once; a single value has no norm worth the name."""
    near(torch.cat(actual), torch.cat(expected), tolerance, what)


def joined_norm(tensors: Tensors) -> torch.Tensor:
    return torch.cat(wide(tensors)).norm()


@check(*((source, target) for source in ROUNDING for target in ROUNDING))
def scale(source: torch.dtype, target: torch.dtype) -> None:
    inputs, outputs, found = draw(source), draw(target), flag()
    amp_C.multi_tensor_scale(CHUNK, found, [inputs, outputs], 0.375)
    expected = [0.375 * tensor for tensor in wide(inputs)]
    near_all(outputs, expected, TOLERANCE[target], "output")
    assert found.item() == 0
    inputs[77][-1] = float("inf")
    amp_C.multi_tensor_scale(CHUNK, found, [inputs, outputs], 0.375)
    assert found.item() == 1, "an infinity was not reported"


@check(*((x, y) for x in (torch.float32, torch.float16) for y in (torch.float32, torch.float16)))
def axpby(first: torch.dtype, second: torch.dtype) -> None:
    xs, ys, outputs, found = draw(first), draw(second), draw(), flag()
    ys[5][0] = float("nan")
    amp_C.multi_tensor_axpby(CHUNK, found, [xs, ys, outputs], 2.0, -0.5, 0)  # looks at xs alone
    assert found.item() == 0
    ys[5][0] = 1.0
    amp_C.multi_tensor_axpby(CHUNK, found, [xs, ys, outputs], 2.0, -0.5, -1)
    expected = [2 * x - 0.5 * y for x, y in zip(wide(xs), wide(ys))]
    near_all(outputs, expected, SINGLE, "output")
    xs[5][0] = float("nan")
    amp_C.multi_tensor_axpby(CHUNK, found, [xs, ys, outputs], 2.0, -0.5, -1)
    assert found.item() == 1, "a NaN was not reported"


@check(*((name, dtype) for name in ("l2norm", "l2norm_mp") for dtype in ROUNDING))
def norms(name: str, dtype: torch.dtype) -> None:
    tensors = draw(dtype)
    total, each = getattr(amp_C, f"multi_tensor_{name}")(CHUNK, flag(), [tensors], True)
    near(total, joined_norm(tensors)[None], SINGLE, "norm of all")
    near(each, torch.stack([t.norm() for t in wide(tensors)]), SINGLE, "norm of each")


@check(*((dtype,) for dtype in ROUNDING))
def norm_unscaled(dtype: torch.dtype) -> None:
    tensors = draw(dtype)
    total, _ = amp_C.multi_tensor_unscale_l2norm(CHUNK, flag(), [tensors], number(0.25), False)
    near(total, 0.25 * joined_norm(tensors)[None], SINGLE, "norm of all")


@check((torch.float32,), (torch.float16,))
def norm_and_scale(dtype: torch.dtype) -> None:
    tensors, outputs = draw(dtype), draw()
    total, each = amp_C.multi_tensor_l2norm_scale(CHUNK, flag(), [tensors, outputs], 3.0, True)
    near(total, joined_norm(tensors)[None], SINGLE, "norm of all")
    near(each, torch.stack([t.norm() for t in wide(tensors)]), SINGLE, "norm of each")
    near_all(outputs, [3 * tensor for tensor in wide(tensors)], SINGLE, "output")


def sgd_reference(
    grads: Tensors, params: Tensors, momenta: Tensors, *, nesterov: bool, first: bool
) -> None:
    """One step of SGD in place: decay, momentum 0.9, dampening 0.1."""
    for g, p, m in zip(grads, params, momenta):
        slope = g + DECAY * p
        m.copy_(slope if first else 0.9 * m + (1 - 0.1) * slope)
        p.sub_(LR * (slope + 0.9 * m if nesterov else m))


@check(
    *(
        (grad, copied, nesterov, first)
        for grad, copied in ((torch.float32, False), (torch.float32, True), (torch.float16, True))
        for nesterov in (True, False)
        for first in (True, False)
    )
)
def sgd(grad: torch.dtype, copied: bool, nesterov: bool, first: bool) -> None:
    lists = [draw(grad), draw(), draw()]
    expected = [wide(tensors) for tensors in lists]
    if copied:  # the model's own fp16 weights, written beside the fp32 ones
        lists.append(draw(torch.float16))
    sgd_reference(*expected, nesterov=nesterov, first=first)
    amp_C.multi_tensor_sgd(CHUNK, flag(), lists, DECAY, 0.9, 0.1, LR, nesterov, first, False, 1.0)
    near_all(lists[1], expected[1], SINGLE, "weights")
    near_all(lists[2], expected[2], SINGLE, "momenta")
    if copied:
        near_all(lists[3], expected[1], TOLERANCE[torch.float16], "fp16 weights")


def adam_reference(
    grads: Tensors, params: Tensors, means: Tensors, squares: Tensors, *, decoupled: bool
) -> None:
    """One step of Adam (decay in the gradient) or AdamW (`decoupled`), in place."""
    for g, p, m, v in zip(grads, params, means, squares):
        slope = g if decoupled else g + DECAY * p
        m.mul_(BETA1).add_((1 - BETA1) * slope)
        v.mul_(BETA2).add_((1 - BETA2) * slope * slope)
        update = (m / CORRECTION1) / ((v / CORRECTION2).sqrt() + EPS)
        p.sub_(LR * (update + DECAY * p if decoupled else update))


@check(*((dtype, decoupled) for dtype in ROUNDING for decoupled in (True, False)))
def adam(dtype: torch.dtype, decoupled: bool) -> None:
    lists = [draw(dtype), draw(dtype), draw(), draw(positive=True)]
    expected = [wide(tensors) for tensors in lists]
    adam_reference(*expected, decoupled=decoupled)
    amp_C.multi_tensor_adam(
        CHUNK, flag(), lists, LR, BETA1, BETA2, EPS, STEP, int(decoupled), 1, DECAY
    )
    near_all(lists[1], expected[1], TOLERANCE[dtype], "weights")
    near_all(lists[2], expected[2], SINGLE, "means")
    near_all(lists[3], expected[3], SINGLE, "squares")


@check(*((dtype, decoupled) for dtype in ROUNDING for decoupled in (True, False)))
def adam_capturable(dtype: torch.dtype, decoupled: bool) -> None:
    """Settings on the device, scaled gradients, fp32 master weights beside the model's."""
    masters = draw()
    lists = [draw(dtype), [p.to(dtype) for p in masters], draw(), draw(positive=True), masters]
    grads, _, means, squares, params = (wide(tensors) for tensors in lists)
    step = torch.tensor([STEP], dtype=torch.int32, device="cuda")
    settings = (number(LR), BETA1, BETA2, EPS, step, int(decoupled), 1, DECAY, number(0.5))
    stop = flag() + 1
    amp_C.multi_tensor_adam_capturable_master(CHUNK, stop, lists, *settings)
    assert torch.equal(torch.cat(wide(masters)), torch.cat(params)), "a step was not left out"
    adam_reference([g / 2 for g in grads], params, means, squares, decoupled=decoupled)
    amp_C.multi_tensor_adam_capturable_master(CHUNK, flag(), lists, *settings)
    near_all(masters, params, SINGLE, "master weights")
    near_all(lists[1], params, TOLERANCE[dtype], "weights")
    near_all(lists[2], means, SINGLE, "means")
    near_all(lists[3], squares, SINGLE, "squares")


@check((True,), (False,))
def adam_capturable_without_masters(decoupled: bool) -> None:
    lists = [draw(), draw(), draw(), draw(positive=True)]
    expected = [wide(tensors) for tensors in lists]
    step = torch.tensor([STEP], dtype=torch.int32, device="cuda")
    amp_C.multi_tensor_adam_capturable(
        CHUNK,
        flag(),
        lists,
        number(LR),
        BETA1,
        BETA2,
        EPS,
        step,
        int(decoupled),
        1,
        DECAY,
        number(1.0),
    )
    adam_reference(*expected, decoupled=decoupled)
    for index, what in ((1, "weights"), (2, "means"), (3, "squares")):
        near_all(lists[index], expected[index], SINGLE, what)


@check((0,), (1,))
def adagrad(mode: int) -> None:
    lists = [draw(), draw(), draw(positive=True)]
    grads, params, sums = (wide(tensors) for tensors in lists)
    amp_C.multi_tensor_adagrad(CHUNK, flag(), lists, LR, EPS, mode, DECAY)
    for g, p, h in zip(grads, params, sums):
        slope = g if mode else g + DECAY * p
        h.add_(slope * slope)
        p.sub_(LR * (slope / (h.sqrt() + EPS) + (DECAY * p if mode else 0)))
    near_all(lists[1], params, SINGLE, "weights")
    near_all(lists[2], sums, SINGLE, "sums of squares")


@check(*((mode, norm_type) for mode in (0, 1) for norm_type in (0, 2)))
def novograd(mode: int, norm_type: int) -> None:
    """The denominator is one number per tensor: the running L2 (2) or largest (0) norm of grads."""
    lists = [draw(), draw(), draw()]
    grads, params, means = (wide(tensors) for tensors in lists)
    running = torch.rand(len(SIZES), device="cuda") + 0.5
    before = running.double()
    amp_C.multi_tensor_novograd(
        CHUNK, flag(), lists, running, LR, BETA1, BETA2, EPS, STEP, 1, DECAY, 1, mode, norm_type
    )
    if norm_type:
        now = torch.stack([g.norm() for g in grads])
        after = (BETA2 * before**2 + (1 - BETA2) * now**2).sqrt()
    else:
        now = torch.stack([g.abs().max() for g in grads])
        after = BETA2 * before + (1 - BETA2) * now
    for g, p, m, norm in zip(grads, params, means, after):
        bottom = norm / CORRECTION2**0.5 + EPS
        m.mul_(BETA1).add_((1 - BETA1) * (g if mode else g / bottom + DECAY * p))
        update = m / CORRECTION1
        p.sub_(LR * (update / bottom + DECAY * p if mode else update))
    near(running, after, SINGLE, "running norms")
    near_all(lists[1], params, SINGLE, "weights")
    near_all(lists[2], means, SINGLE, "means")


def lamb_reference(
    grads: Tensors, params: Tensors, means: Tensors, squares: Tensors, *, decoupled: bool
) -> None:
    """One step of LAMB in place, gradients clipped to a norm of 1.

    Adam's update, and per tensor a rate in the ratio of the norms of weights and update.
    """
    clip = max(torch.cat(grads).norm().item(), 1.0)
    for g, p, m, v in zip(grads, params, means, squares):
        slope = g / clip + (0 if decoupled else DECAY * p)
        m.mul_(BETA1).add_((1 - BETA1) * slope)
        v.mul_(BETA2).add_((1 - BETA2) * slope * slope)
        update = (m / CORRECTION1) / ((v / CORRECTION2).sqrt() + EPS)
        update = update + (DECAY * p if decoupled else 0)
        p.sub_(LR * p.norm() / update.norm() * update)


@check((True,), (False,))
def lamb(decoupled: bool) -> None:
    lists = [draw(), draw(), draw(), draw(positive=True)]
    expected = [wide(tensors) for tensors in lists]
    norm = joined_norm(lists[0]).float()[None]
    lamb_reference(*expected, decoupled=decoupled)
    amp_C.multi_tensor_lamb(
        CHUNK,
        flag(),
        lists,
        LR,
        BETA1,
        BETA2,
        EPS,
        STEP,
        1,
        DECAY,
        1,
        int(decoupled),
        norm,
        1.0,
        False,
    )
    for index, what in ((1, "weights"), (2, "means"), (3, "squares")):
        near_all(lists[index], expected[index], SINGLE, what)


@check(*((dtype, decoupled) for dtype in HALVES for decoupled in (True, False)))
def lamb_mixed(dtype: torch.dtype, decoupled: bool) -> None:
    """Half gradients and model weights beside fp32 weights and moments."""
    lists = [draw(dtype), draw(), draw(), draw(positive=True), draw(dtype)]
    expected = [wide(tensors) for tensors in lists[:4]]
    norm = joined_norm(lists[0]).float()[None]
    lamb_reference(*expected, decoupled=decoupled)
    step = torch.tensor([STEP], dtype=torch.int32, device="cuda")
    amp_C.multi_tensor_lamb_mp(
        CHUNK,
        flag(),
        lists,
        number(LR),
        BETA1,
        BETA2,
        EPS,
        step,
        1,
        DECAY,
        1,
        int(decoupled),
        norm,
        number(1.0),
        False,
        number(0.0),
        number(1.0),
    )
    # The update is kept where the gradient was, rounded, and moves the weights by a tenth of their
    # norm at most.
    near_all(lists[1], expected[1], LR * TOLERANCE[dtype], "weights")
    near_all(lists[2], expected[2], SINGLE, "means")
    near_all(lists[3], expected[3], SINGLE, "squares")
    near_all(lists[4], expected[1], TOLERANCE[dtype], "model weights")


@check()
def lamb_in_two_stages() -> None:
    lists = [draw(), draw(), draw(), draw(positive=True), draw()]
    grads, params, means, squares = (wide(tensors) for tensors in lists[:4])
    decays = torch.full((len(SIZES),), DECAY, device="cuda")
    norm = joined_norm(lists[0]).float().cpu()[None]  # read by the host
    amp_C.multi_tensor_lamb_stage1_cuda(
        CHUNK, flag(), lists, decays, STEP - 1, BETA1, BETA2, EPS, norm, 1.0
    )
    weight_norms = torch.stack([p.norm() for p in lists[1]])
    update_norms = torch.stack([u.norm() for u in lists[4]])
    amp_C.multi_tensor_lamb_stage2_cuda(
        CHUNK, flag(), [lists[1], lists[4]], weight_norms, update_norms, LR, DECAY, False
    )
    lamb_reference(grads, params, means, squares, decoupled=True)
    near_all(lists[1], params, SINGLE, "weights")
    near_all(lists[2], means, SINGLE, "means")
    near_all(lists[3], squares, SINGLE, "squares")


@check()
def scale_with_hysteresis() -> None:
    """A loss scale that shrinks at the second overflow in a row and grows after two clean steps."""
    scale_now = number(1024.0)
    clean, patience = flag(), flag() + 2
    seen = []
    for overflow in (0.0, 0.0, 1.0, 1.0, 0.0, 0.0):
        amp_C.update_scale_hysteresis(scale_now, clean, patience, number(overflow), 2.0, 0.5, 2, 2)
        seen.append(scale_now.item())
    assert seen == [1024, 2048, 2048, 1024, 1024, 2048], f"scales were {seen}"


@check((True,), (False,))
def fused_adam(decoupled: bool) -> None:
    """Through Apex's own class: five steps against torch's optimizer in float64."""
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    ours = [parameter.requires_grad_() for parameter in draw()]
    theirs = [parameter.detach().double().requires_grad_() for parameter in ours]
    settings = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.05}
    fused, plain = FusedAdam(ours, adam_w_mode=decoupled, **settings), kind(theirs, **settings)
    for _ in range(5):
        for mine, yours in zip(ours, theirs):
            mine.grad = torch.randn_like(mine)
            yours.grad = mine.grad.double()
        fused.step()
        plain.step()
    near_all([p.detach() for p in ours], [p.detach() for p in theirs], SINGLE, "weights")


# A stand-in holds a part of the module: what needs more is refused by name before it is installed.
LACKED_BY_STAND_INS = {
    *(norm_unscaled, norm_and_scale, adagrad, novograd),
    *(lamb_mixed, lamb_in_two_stages, scale_with_hysteresis),
}
if getattr(amp_C, "__apex_fallback__", False):
    CHECKS[:] = [
        (function, case)
        for function, case in CHECKS
        if function not in LACKED_BY_STAND_INS and "l2norm_mp" not in case
    ]


if __name__ == "__main__":
    raise SystemExit(main("amp_C"))
