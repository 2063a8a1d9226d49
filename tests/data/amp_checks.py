"""Run by an interpreter that holds torch: the amp_C stand-in against float64, by hypothesis.

`python amp_checks.py FOLDER_OF_STANDINS FOLDER_OF_HYPOTHESIS EXAMPLES`; one line per check.
"""

from __future__ import annotations

import math
import sys
import warnings

import torch

sys.path.append(sys.argv[2])
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, sys.argv[1])
with warnings.catch_warnings(record=True) as told_at_import:
    warnings.simplefilter("always")
    import amp_C as amp

CHUNK = 65536
ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
DTYPES = st.sampled_from(list(ROUNDING))
BAD = st.sampled_from([math.inf, -math.inf, math.nan])
SHAPES = st.lists(
    st.sampled_from([(1,), (7,), (0,), (2, 3), (4, 3, 2, 2), (40, 30)]), min_size=1, max_size=4
)
HASTE = st.sampled_from(["fused", "single", "cut"])
"""By torch's own fused step; as on a torch that has none; in parts of a few elements."""
examples = settings(
    max_examples=int(sys.argv[3]),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
HAS_FUSED, AT_ONCE = amp._has_fused, amp._AT_ONCE


def choose(haste):
    amp._has_fused = (lambda *_: False) if haste == "single" else HAS_FUSED
    amp._AT_ONCE = 5 if haste == "cut" else AT_ONCE


def flag(value=0):
    return torch.tensor([value], dtype=torch.int32)


def number(value):
    return torch.tensor([value], dtype=torch.float32)


def draw_list(shapes, dtype=torch.float32, *, positive=False, turned=False):
    """Fresh tensors; `turned`: dense, but in another order of dimensions."""
    made = [torch.randn(shape).mul(2).to(dtype) for shape in shapes]
    made = [one.abs() for one in made] if positive else made
    return [turn(one) for one in made] if turned else made


def turn(tensor):
    if tensor.dim() == 4:
        return tensor.to(memory_format=torch.channels_last)
    return tensor.t().contiguous().t() if tensor.dim() == 2 else tensor


def wide(tensors):
    return [tensor.detach().double() for tensor in tensors]


def kept(lists):
    return [[tensor.clone() for tensor in tensors] for tensors in lists]


def same(lists, before):
    for tensors, old in zip(lists, before, strict=True):
        for one, other in zip(tensors, old, strict=True):
            assert torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0)), "was written"


def near_all(found, wanted, dtype, what):
    for one, expected in zip(found, wanted, strict=True):
        assert one.dtype == dtype, f"{what}: {one.dtype}"
        assert one.shape == expected.shape
        if one.numel():
            scale = max(1.0, expected.abs().max().item())
            error = (one.double() - expected).abs().max().item() / scale
            allowed = max(2 * ROUNDING[dtype], 2e-5)
            assert error <= allowed, f"{what}: off by {error} in {dtype}"


def says_so():
    assert amp.__apex_fallback__ is True
    assert not told_at_import, "import apex imports it for everybody"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            amp.multi_tensor_scale(CHUNK, flag(), [[torch.ones(1)], [torch.ones(1)]], 1.0)
    assert [str(one.message).split(":")[0] for one in told] == [
        "amp_C is a stand-in of the Python-only apex"
    ]


def absent():
    for name in amp._ABSENT:
        for ask in (getattr, take):
            said = refusal(ask, amp, name)
            assert name in str(said)
            assert "run apex-install" in str(said)
            assert said.name == "amp_C"
    assert not hasattr(amp, "multi_tensor_of_another_time")
    assert not hasattr(amp, "__path__")


def take(module, name):
    exec(f"from {module.__name__} import {name}", {})  # noqa: S102


def refusal(ask, *words):
    try:
        ask(*words)
    except ImportError as error:
        return error
    raise AssertionError(words)


def lists_that_do_not_belong_together():
    for lists in ([[torch.ones(2)], [torch.ones(3)]], [[torch.ones(2)], []]):
        try:
            amp.multi_tensor_scale(CHUNK, flag(), lists, 1.0)
        except RuntimeError:
            continue
        raise AssertionError(lists)


@examples
@seed(1)
@given(SHAPES, DTYPES, DTYPES, st.booleans(), st.none() | BAD, HASTE)
def scale(shapes, of, to, as_tensor, bad, haste):
    choose(haste)
    inputs, outputs, found = draw_list(shapes, of), draw_list(shapes, to), flag()
    spoiled = bad is not None and spoil(inputs[-1], bad)
    factor = torch.tensor(0.375) if as_tensor else 0.375
    amp.multi_tensor_scale(CHUNK, found, [inputs, outputs], factor)
    assert found.item() == int(spoiled)
    if not spoiled:
        near_all(outputs, [0.375 * one for one in wide(inputs)], to, "outputs")
    wanted = [0.5 * one for one in wide(inputs[:-1])]
    amp.multi_tensor_scale(CHUNK, found, [inputs, inputs], 0.5)  # in place, as clip_grad does
    near_all(inputs[:-1], wanted, of, "in place")


def spoil(tensor, bad):
    """Put it at the end; whether there is one."""
    if tensor.numel():
        tensor[tuple(-1 for _ in tensor.shape)] = bad
    return bool(tensor.numel())


@examples
@seed(2)
@given(SHAPES, DTYPES, DTYPES, DTYPES, st.sampled_from([-1, 0, 1]), st.none() | BAD, HASTE)
def axpby(shapes, of_x, of_y, to, checked, bad, haste):
    choose(haste)
    xs, ys, outputs = draw_list(shapes, of_x), draw_list(shapes, of_y), draw_list(shapes, to)
    found = flag()
    spoiled = bad is not None and spoil(ys[-1], bad)
    amp.multi_tensor_axpby(CHUNK, found, [xs, ys, outputs], 2.0, -0.5, checked)
    assert found.item() == int(spoiled and checked != 0)
    if not spoiled:
        sums = [2 * x - 0.5 * y for x, y in zip(wide(xs), wide(ys), strict=True)]
        near_all(outputs, sums, to, "outputs")


@examples
@seed(3)
@given(SHAPES, DTYPES, st.sampled_from([None, False, True]), st.none() | BAD, HASTE)
def l2norm(shapes, dtype, each, bad, haste):
    choose(haste)
    tensors, found = draw_list(shapes, dtype), flag()
    spoiled = bad is not None and spoil(tensors[0], bad)
    words = () if each is None else (each,)
    total, norms = amp.multi_tensor_l2norm(CHUNK, found, [tensors], *words)
    assert total.shape == (1,)
    assert norms.shape == ((len(tensors),) if each else (0,))
    assert total.dtype == norms.dtype == torch.float32
    assert found.item() == int(spoiled)
    if not spoiled:
        wanted = torch.stack([one.norm() for one in wide(tensors)])
        near_all([total], [wanted.norm()[None]], torch.float32, "norm of all")
        near_all([norms], [wanted if each else wanted[:0]], torch.float32, "norm of each")


@examples
@seed(4)
@given(
    SHAPES,
    st.sampled_from(["half", "single", "model", "model16"]),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([(0.0, 0.0, False), (0.9, 0.1, False), (0.9, 0.0, True)]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.0, 0.25]),
    HASTE,
)
def sgd(shapes, kind, decay, how, first, late, factor, haste):
    choose(haste)
    momentum, dampening, nesterov = how
    of_grads = torch.float16 if kind in ("half", "model16") else torch.float32
    of_weights = torch.float16 if kind == "half" else torch.float32
    lists = [draw_list(shapes, one) for one in (of_grads, of_weights, of_weights)]
    lists += [draw_list(shapes, torch.float16)] if kind.startswith("model") else []
    words = (decay, momentum, dampening, 0.1, nesterov, first, late, factor)
    before = kept(lists)
    amp.multi_tensor_sgd(CHUNK, flag(1), lists, *words)
    same(lists, before)
    amp.multi_tensor_sgd(CHUNK, flag(), lists, *words)
    same(lists[:1], before[:1])
    weights, momenta = [], []
    for g, p, m in zip(*(wide(tensors) for tensors in before[:3]), strict=True):
        slope = g * factor + (0 if late else decay * p)
        mean = m
        if momentum:
            mean = slope if first else momentum * m + (1 - dampening) * slope
            slope = slope + momentum * mean if nesterov else mean
        slope = slope + (decay * p if late else 0)
        weights.append(p - 0.1 * slope)
        momenta.append(mean)
    near_all(lists[1], weights, of_weights, "weights")
    near_all(lists[2], momenta, of_weights, "momenta")
    if len(lists) > 3:
        near_all(lists[3], weights, torch.float16, "the model's weights")


def halves_go_by_rounded_steps():
    """As the kernel's `half += float` has it; so a step of torch's own SGD is met to the bit."""
    choose("fused")
    torch.manual_seed(2)
    mine = [torch.rand(5000).half()]
    momenta, other = [torch.zeros(5000).half()], torch.nn.Parameter(mine[0].clone())
    theirs = torch.optim.SGD([other], lr=0.25, momentum=0.125)
    for number in range(5):
        other.grad = torch.rand(5000).half()
        theirs.step()
        lists = [[other.grad], mine, momenta]
        words = (0.0, 0.125, 0.0, 0.25, False, number == 0, False, 1.0)
        amp.multi_tensor_sgd(CHUNK, flag(), lists, *words)
        assert torch.equal(mine[0], other)


def adam_reference(grads, params, means, squares, *, decoupled, step, decay, corrected):
    first, second = (1 - 0.8**step, 1 - 0.9**step) if corrected else (1, 1)
    for g, p, m, v in zip(grads, params, means, squares, strict=True):
        slope = g if decoupled else g + decay * p
        m.mul_(0.8).add_(0.2 * slope)
        v.mul_(0.9).add_(0.1 * slope * slope)
        update = (m / first) / ((v / second).sqrt() + 1e-6)
        p.sub_(0.1 * (update + (decay * p if decoupled else 0)))


ADAM = (
    SHAPES,
    DTYPES,
    DTYPES,
    st.sampled_from([0, 1]),
    st.integers(1, 50),
    st.sampled_from([0, 1]),
    st.sampled_from([0.0, 0.05]),
    st.booleans(),
    HASTE,
)


@examples
@seed(5)
@given(*ADAM)
def adam(shapes, of_grads, of_weights, mode, step, corrected, decay, turned, haste):
    choose(haste)
    lists = [draw_list(shapes, of_grads, turned=turned), draw_list(shapes, of_weights)]
    lists += [draw_list(shapes), draw_list(shapes, positive=True)]
    wanted, before = [wide(tensors) for tensors in lists], kept(lists)
    how = {"decoupled": bool(mode), "step": step, "decay": decay, "corrected": corrected}
    adam_reference(*wanted, **how)
    words = (0.1, 0.8, 0.9, 1e-6, step, mode, corrected, decay)
    amp.multi_tensor_adam(CHUNK, flag(1), lists, *words)  # its flag is not asked
    same(lists[:1], before[:1])
    near_all(lists[1], wanted[1], of_weights, "weights")
    near_all(lists[2], wanted[2], torch.float32, "means")
    near_all(lists[3], wanted[3], torch.float32, "squares")


@examples
@seed(6)
@given(*ADAM, st.none() | BAD)
def adam_capturable(shapes, of_grads, of_weights, mode, step, corrected, decay, turned, haste, bad):
    choose(haste)
    lists = [draw_list(shapes, of_grads, turned=turned), draw_list(shapes, of_weights)]
    lists += [draw_list(shapes), draw_list(shapes, positive=True)]
    words = (number(0.1), 0.8, 0.9, 1e-6, torch.tensor([step], dtype=torch.int32))
    words += (mode, corrected, decay, number(0.5))
    stopped = kept(lists)
    if bad is not None:
        spoil(stopped[0][-1], bad)
    before = kept(stopped)
    amp.multi_tensor_adam_capturable(CHUNK, flag(1), stopped, *words)
    same(stopped, before)
    wanted = [wide(tensors) for tensors in lists]
    wanted[0] = [grad / 2 for grad in wanted[0]]
    how = {"decoupled": bool(mode), "step": step, "decay": decay, "corrected": corrected}
    adam_reference(*wanted, **how)
    amp.multi_tensor_adam_capturable(CHUNK, flag(), lists, *words)
    near_all(lists[0], wanted[0], of_grads, "gradients")
    near_all(lists[1], wanted[1], of_weights, "weights")
    near_all(lists[2], wanted[2], torch.float32, "means")
    near_all(lists[3], wanted[3], torch.float32, "squares")


@examples
@seed(7)
@given(*ADAM)
def adam_capturable_master(
    shapes, of_grads, of_weights, mode, step, corrected, decay, turned, haste
):
    """The model's weights are not the master weights rounded: it may hold others."""
    choose(haste)
    lists = [draw_list(shapes, of_grads, turned=turned), draw_list(shapes, of_weights)]
    lists += [draw_list(shapes), draw_list(shapes, positive=True), draw_list(shapes)]
    words = (torch.tensor(0.1), 0.8, 0.9, 1e-6, torch.tensor([step], dtype=torch.int32))
    words += (mode, corrected, decay, number(0.5))
    before = kept(lists)
    amp.multi_tensor_adam_capturable_master(CHUNK, flag(1), lists, *words)
    same(lists, before)
    grads, _, means, squares, params = (wide(tensors) for tensors in lists)
    how = {"decoupled": bool(mode), "step": step, "decay": decay, "corrected": corrected}
    adam_reference([grad / 2 for grad in grads], params, means, squares, **how)
    amp.multi_tensor_adam_capturable_master(CHUNK, flag(), lists, *words)
    near_all(lists[1], params, of_weights, "weights")
    near_all(lists[4], params, torch.float32, "master weights")
    near_all(lists[2], means, torch.float32, "means")
    near_all(lists[3], squares, torch.float32, "squares")


@examples
@seed(8)
@given(
    SHAPES,
    DTYPES,
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1]),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([None, False, True]),
    st.sampled_from([0.5, 1e6]),
    HASTE,
)
def lamb(shapes, dtype, mode, averaged, corrected, decay, nvlamb, limit, haste):
    choose(haste)
    lists = [draw_list(shapes, dtype) for _ in range(3)] + [draw_list(shapes, dtype, positive=True)]
    lists[1][0].zero_()  # a norm of nought: the plain rate
    grads, params, means, squares = (wide(tensors) for tensors in lists)
    norm = torch.cat([grad.reshape(-1) for grad in grads]).norm().float().reshape(1)
    words = (0.1, 0.8, 0.9, 1e-3, 3, corrected, decay, averaged, mode, norm, limit)
    words += () if nvlamb is None else (nvlamb,)
    amp.multi_tensor_lamb(CHUNK, flag(), lists, *words)
    first, second = (1 - 0.8**3, 1 - 0.9**3) if corrected else (1, 1)
    clip = max(norm.item() / limit, 1.0)
    for g, p, m, v in zip(grads, params, means, squares, strict=True):
        slope = g / clip + (0 if mode else decay * p)
        m.mul_(0.8).add_((0.2 if averaged else 1) * slope)
        v.mul_(0.9).add_(0.1 * slope * slope)
        update = (m / first) / ((v / second).sqrt() + 1e-3)
        update = update + (decay * p if mode else 0)
        adapts = (nvlamb or decay) and p.norm() and update.norm()
        p.sub_(0.1 * (p.norm() / update.norm() if adapts else 1) * update)
        g.copy_(update)
    near_all(lists[2], means, dtype, "means")
    near_all(lists[3], squares, dtype, "squares")
    near_all(lists[0], grads, dtype, "updates")
    near_all(lists[1], params, dtype, "weights")


def norms_that_are_not_finite_set_lambs_flag():
    choose("fused")
    found, lists = flag(), [[torch.ones(3)] for _ in range(4)]
    lists[1][0][0] = math.inf
    words = (0.1, 0.8, 0.9, 1e-3, 3, 1, 0.1, 1, 1, number(1.0), 1.0, True)
    amp.multi_tensor_lamb(CHUNK, found, lists, *words)
    assert found.item() == 1


for check in (
    says_so,
    absent,
    lists_that_do_not_belong_together,
    scale,
    axpby,
    l2norm,
    sgd,
    halves_go_by_rounded_steps,
    adam,
    adam_capturable,
    adam_capturable_master,
    lamb,
    norms_that_are_not_finite_set_lambs_flag,
):
    check()
    print(check.__name__, "passed")
