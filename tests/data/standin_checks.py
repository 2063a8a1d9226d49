"""Run by an interpreter that holds torch: the norm stand-in against float64, by hypothesis.

`python standin_checks.py FOLDER_OF_STANDINS FOLDER_OF_HYPOTHESIS EXAMPLES`; one line per check.
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
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import fused_layer_norm_cuda as norm

HALVES = (torch.float16, torch.bfloat16)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.float16: 8e-3, torch.bfloat16: 5e-2}
DTYPES = st.sampled_from(list(TOLERANCE))
RMS = norm._RMS
examples = settings(
    max_examples=int(sys.argv[3]),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def cases(draw, *, mixed=False):
    """Input, normalized shape, weight, bias, eps, gradient of the output."""
    outer = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    inner = draw(st.lists(st.integers(2, 9), min_size=1, max_size=2))
    dtype = draw(DTYPES)
    weight_dtype = draw(DTYPES) if mixed else dtype
    torch.manual_seed(draw(st.integers(0, 999)))
    tensor = torch.randn(*outer, *inner).mul(3).add(draw(st.floats(-2, 2))).to(dtype)
    if draw(st.booleans()):  # the same values, not contiguous
        tensor = tensor.transpose(0, -1).contiguous().transpose(0, -1)
    weight = torch.where(torch.rand(inner) < 0.5, -1.0, 1.0) * (torch.rand(inner) + 0.5)
    bias = torch.randn(inner)
    eps = draw(st.sampled_from([1e-6, 1e-5, 1e-2]))
    gradient = torch.randn(*outer, *inner).to(weight_dtype if mixed else dtype)
    return tensor, inner, weight.to(weight_dtype), bias.to(weight_dtype), eps, gradient


def reference(tensor, inner, weight, bias, eps, *, centred):
    """In float64, with gradients: (output, mean, invvar, its leaves)."""
    leaves = [
        one.detach().double().requires_grad_() if one is not None else None
        for one in (tensor, weight, bias)
    ]
    rows = leaves[0].reshape(-1, math.prod(inner))
    mean = rows.mean(1) if centred else torch.zeros(len(rows), dtype=torch.float64)
    invvar = ((rows - mean[:, None]).square().mean(1) + eps).rsqrt()
    output = ((rows - mean[:, None]) * invvar[:, None]).reshape(tensor.shape)
    if weight is not None:
        output = output * leaves[1]
    if bias is not None:
        output = output + leaves[2]
    return output, mean, invvar, leaves


def near(found, wanted, dtype, what):
    scale = max(1.0, wanted.abs().max().item())
    error = (found.double() - wanted).abs().max().item() / scale
    assert error <= TOLERANCE[dtype], f"{what}: off by {error} in {dtype}"


def statistics(dtype):
    return torch.float32 if dtype in HALVES else dtype


def check_forward(case, found, *, centred, affine, dtype):
    tensor, inner, weight, bias, eps, _ = case
    weight, bias = (weight, bias if centred else None) if affine else (None, None)
    wanted, mean, invvar, _ = reference(tensor, inner, weight, bias, eps, centred=centred)
    output, *rest = found
    assert output.dtype == dtype
    assert output.shape == tensor.shape
    assert output.data_ptr() != tensor.data_ptr(), "the output is the input's memory"
    loosest = max(tensor.dtype, dtype, key=TOLERANCE.__getitem__)
    near(output, wanted.detach(), loosest, "output")
    for value, expected in zip(rest, [mean, invvar] if centred else [invvar], strict=True):
        assert value.dtype == statistics(tensor.dtype)
        assert value.shape == (tensor.numel() // math.prod(inner),)
        near(value, expected.detach(), tensor.dtype, "statistics")


@examples
@seed(1)
@given(cases(), st.booleans())
def forwards(case, own_kernel):
    """By torch's RMS kernel, and as on a torch that has none."""
    tensor, inner, weight, bias, eps, _ = case
    dtype = tensor.dtype
    norm._RMS = RMS if own_kernel else None
    check_forward(case, norm.forward(tensor, inner, eps), centred=True, affine=False, dtype=dtype)
    check_forward(
        case, norm.rms_forward(tensor, inner, eps), centred=False, affine=False, dtype=dtype
    )
    check_forward(
        case,
        norm.forward_affine(tensor, inner, weight, bias, eps),
        centred=True,
        affine=True,
        dtype=dtype,
    )
    check_forward(
        case,
        norm.rms_forward_affine(tensor, inner, weight, eps),
        centred=False,
        affine=True,
        dtype=dtype,
    )


@examples
@seed(2)
@given(cases(mixed=True), st.booleans())
def mixed_forwards(case, own_kernel):
    tensor, inner, weight, bias, eps, _ = case
    norm._RMS = RMS if own_kernel else None
    check_forward(
        case,
        norm.forward_affine_mixed_dtypes(tensor, inner, weight, bias, eps),
        centred=True,
        affine=True,
        dtype=weight.dtype,
    )
    check_forward(
        case,
        norm.rms_forward_affine_mixed_dtypes(tensor, inner, weight, eps),
        centred=False,
        affine=True,
        dtype=weight.dtype,
    )


@examples
@seed(3)
@given(cases(), st.sampled_from([(), (False,), (True,)]))
def backwards(case, memory_efficient):
    """Without the last argument it is the older signature."""
    tensor, inner, weight, bias, eps, gradient = case
    from_output = memory_efficient == (True,)
    for centred in (True, False):
        for affine in (True, False):
            scale = (weight, bias if centred else None) if affine else (None, None)
            wanted, _, _, leaves = reference(tensor, inner, *scale, eps, centred=centred)
            wanted.backward(gradient.double())
            name = ("" if centred else "rms_") + "forward" + ("_affine" if affine else "")
            given_scale = [one for one in scale if one is not None]
            output, *stats = getattr(norm, name)(tensor, inner, *given_scale, eps)
            kept = output if from_output else tensor
            if centred and from_output:
                stats[0] = None
            name = name.replace("forward", "backward")
            found = getattr(norm, name)(
                gradient, *stats, kept, inner, *given_scale, eps, *memory_efficient
            )
            found = [found] if isinstance(found, torch.Tensor) else list(found)
            expected = [leaf.grad for leaf in leaves if leaf is not None]
            assert len(found) == len(expected)
            for value, leaf, like in zip(found, expected, [tensor, *given_scale], strict=True):
                assert value.dtype == like.dtype
                assert value.shape == like.shape
                near(value, leaf, tensor.dtype, name)


def says_so():
    assert norm.__apex_fallback__ is True
    assert [str(one.message).split(":")[0] for one in told] == [
        "fused_layer_norm_cuda is a stand-in of the Python-only apex"
    ]


def every_call(*, dtype=torch.float32, turned=False):
    """(name, arguments, how many tensors it returns), backwards by their older signature too."""
    torch.manual_seed(0)
    ns, eps = [6, 4], 1e-5
    tensor, grad = torch.randn(3, 5, 6, 4).to(dtype), torch.randn(3, 5, 6, 4).to(dtype)
    if turned:
        tensor, grad = (one.transpose(0, 1).contiguous().transpose(0, 1) for one in (tensor, grad))
    weight, bias = (torch.rand(ns).add(0.5).to(dtype) for _ in range(2))
    mean, invvar = torch.zeros(15), torch.ones(15)
    if dtype == torch.float64:
        mean, invvar = mean.double(), invvar.double()
    yield "forward", (tensor, ns, eps), 3
    yield "rms_forward", (tensor, ns, eps), 2
    for mixed in ("", "_mixed_dtypes"):
        yield f"forward_affine{mixed}", (tensor, ns, weight, bias, eps), 3
        yield f"rms_forward_affine{mixed}", (tensor, ns, weight, eps), 2
    for last, mu in (((), mean), ((False,), mean), ((True,), None)):
        yield "backward", (grad, mu, invvar, tensor, ns, eps, *last), 1
        yield "rms_backward", (grad, invvar, tensor, ns, eps, *last), 1
        yield "backward_affine", (grad, mu, invvar, tensor, ns, weight, bias, eps, *last), 3
        yield "rms_backward_affine", (grad, invvar, tensor, ns, weight, eps, *last), 2


def call(name, words):
    found = getattr(norm, name)(*words)
    assert isinstance(found, torch.Tensor if name.endswith("backward") else list), name
    return [found] if isinstance(found, torch.Tensor) else found


def shapes_and_dtypes():
    for dtype in TOLERANCE:
        for turned in (False, True):
            for name, words, count in every_call(dtype=dtype, turned=turned):
                found = call(name, words)
                assert len(found) == count, name
                assert found[0].shape == (3, 5, 6, 4)
                assert found[0].dtype == dtype, name
                for one in found[1:]:
                    is_gradient = "backward" in name
                    assert one.shape == ((6, 4) if is_gradient else (15,)), name
                    assert one.dtype == (dtype if is_gradient else statistics(dtype)), name


def results_are_fresh():
    """The caller writes into them in place, and torch's custom operators may not alias."""
    for rms in (RMS, None):
        norm._RMS = rms
        for name, words, _ in every_call():
            given = {one.untyped_storage().data_ptr() for one in words if torch.is_tensor(one)}
            before = [one.clone() for one in words if torch.is_tensor(one)]
            found = call(name, words)
            places = {one.untyped_storage().data_ptr() for one in found}
            assert len(places) == len(found), name
            assert not places & given, name
            for one in found:
                one.mul_(2).add_(1)
            after = [one for one in words if torch.is_tensor(one)]
            assert all(map(torch.equal, before, after)), name


def weights_are_applied_after_rounding():
    for dtype in HALVES:
        assert not norm._goes_within(torch.empty(1, dtype=dtype), dtype)  # as read on a GPU
        torch.manual_seed(1)
        tensor, ns = torch.randn(64, 128).to(dtype), [128]
        weight, bias = torch.rand(128).to(dtype), torch.rand(128).to(dtype)
        for rms in (RMS, None):
            norm._RMS = rms
            plain = norm.rms_forward(tensor, ns, 1e-5)[0]
            assert torch.equal(norm.rms_forward_affine(tensor, ns, weight, 1e-5)[0], weight * plain)
        plain = norm.forward(tensor, ns, 1e-5)[0]
        found = norm.forward_affine(tensor, ns, weight, bias, 1e-5)[0]
        assert torch.equal(found, weight * plain + bias)


def autocast_changes_nothing():
    """The wrapper casts and switches it off; who calls the functions within it gets the same."""
    for dtype in (torch.float32, torch.bfloat16):
        for name, words, _ in every_call(dtype=dtype):
            wanted = call(name, words)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = call(name, words)
            for one, other in zip(found, wanted, strict=True):
                assert one.dtype == other.dtype, name
                assert torch.equal(one, other), name


def no_rows_at_all():
    tensor, weight = torch.empty(0, 8), torch.ones(8)
    assert norm.rms_forward_affine(tensor, [8], weight, 1e-5)[0].shape == (0, 8)
    assert norm.forward(tensor, [8], 1e-5)[1].shape == (0,)


for check in (
    says_so,
    forwards,
    mixed_forwards,
    backwards,
    shapes_and_dtypes,
    results_are_fresh,
    weights_are_applied_after_rounding,
    autocast_changes_nothing,
    no_rows_at_all,
):
    check()
    print(check.__name__, "passed")
