"""Run by an interpreter that holds torch, with a Python-only Apex on its path: does it run?

`python apex_checks.py`. There is no GPU: what Apex puts on "cuda" is put on the CPU, and functions
that Apex leaves out for a CPU are called by themselves. One line per check.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
import warnings

import torch

warnings.simplefilter("ignore")


def on_cpu(function):
    """The same function, for which "cuda" is the CPU."""

    @functools.wraps(function)
    def changed(*words, device=None, **more):
        return function(*words, **more, **({} if device in (None, "cuda") else {"device": device}))

    return changed


torch.tensor = on_cpu(torch.tensor)
torch.cuda.IntTensor = lambda values: torch.tensor(values, dtype=torch.int32)
if importlib.util.find_spec("numpy") is None:  # older refs import it, and use nothing of it here
    sys.modules["numpy"] = types.ModuleType("numpy")

import apex.normalization.fused_layer_norm as norms  # noqa: E402
import apex.optimizers  # noqa: E402
from apex.contrib.clip_grad import clip_grad_norm_  # noqa: E402
from apex.multi_tensor_apply import multi_tensor_applier  # noqa: E402

if not hasattr(sys.modules.get("numpy"), "ndarray"):
    sys.modules.pop("numpy", None)


def parameters(dtype=torch.float32):
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in ((4, 3), (7,), (1,))]


def step_together(ours, theirs, mine, other, *, tolerance):
    for number in range(5):
        torch.manual_seed(number)
        for one, another in zip(mine, other, strict=True):
            another.grad = torch.randn(one.shape)
            one.grad = another.grad.to(one.dtype)
        ours.step()
        theirs.step()
        for one, another in zip(mine, other, strict=True):
            torch.testing.assert_close(one.float(), another, rtol=tolerance, atol=tolerance)


def adam_is_torchs():
    for decoupled in (True, False):
        for more in ({}, {"capturable": True}, {"capturable": True, "master_weights": True}):
            mine, other = parameters(), parameters()
            ours = apex.optimizers.FusedAdam(
                mine, lr=0.01, weight_decay=0.1, adam_w_mode=decoupled, **more
            )
            kind = torch.optim.AdamW if decoupled else torch.optim.Adam
            theirs = kind(other, lr=0.01, weight_decay=0.1)
            step_together(ours, theirs, mine, other, tolerance=1e-5)


def adam_keeps_halves_near():
    for dtype, tolerance in ((torch.float16, 5e-3), (torch.bfloat16, 5e-2)):
        mine, other = parameters(dtype), [p.detach().float() for p in parameters(dtype)]
        ours = apex.optimizers.FusedAdam(mine, lr=0.01)
        theirs = torch.optim.AdamW(other, lr=0.01, weight_decay=0)
        step_together(ours, theirs, mine, other, tolerance=tolerance)


def sgd_is_torchs():
    for more in ({}, {"momentum": 0.9, "dampening": 0.1}, {"momentum": 0.9, "nesterov": True}):
        mine, other = parameters(), parameters()
        ours = apex.optimizers.FusedSGD(mine, lr=0.1, weight_decay=0.01, **more)
        theirs = torch.optim.SGD(other, lr=0.1, weight_decay=0.01, **more)
        step_together(ours, theirs, mine, other, tolerance=1e-5)


def lamb_steps():
    """Against its own formula; torch has no such optimizer."""
    mine = parameters()
    ours = apex.optimizers.FusedLAMB(mine, lr=0.1, weight_decay=0.1, max_grad_norm=1e9, eps=1e-6)
    for parameter in mine:
        parameter.grad = torch.randn(parameter.shape)
    wanted = []
    for parameter in mine:
        weight, grad = parameter.detach().clone(), parameter.grad.clone()
        update = grad / (grad.abs() + 1e-6) + 0.1 * weight
        wanted.append(weight - 0.1 * weight.norm() / update.norm() * update)
    ours.step()
    for parameter, weight in zip(mine, wanted, strict=True):
        torch.testing.assert_close(parameter.detach(), weight, rtol=1e-4, atol=1e-4)


def clipping_is_torchs():
    """Apex's function leaves a CPU to torch, so that the two calls it makes are made here."""
    import amp_C  # noqa: PLC0415

    assert multi_tensor_applier.available
    mine, other = parameters(), parameters()
    for one, another in zip(mine, other, strict=True):
        one.grad, another.grad = torch.ones(one.shape), torch.ones(one.shape)
    flag, grads = torch.zeros(1, dtype=torch.int32), [one.grad for one in mine]
    norm, _ = multi_tensor_applier(amp_C.multi_tensor_l2norm, flag, [grads], None)
    coefficient = torch.clamp(0.5 / (norm + 1e-6), max=1.0)
    multi_tensor_applier(amp_C.multi_tensor_scale, flag, [grads, grads], coefficient)
    torch.testing.assert_close(norm[0], torch.nn.utils.clip_grad_norm_(other, 0.5))
    for one, another in zip(mine, other, strict=True):
        torch.testing.assert_close(one.grad, another.grad)
    clip_grad_norm_(mine, 0.5)


def norms_go_through_the_stand_in():
    """By the wrapper's own functions: custom operators where this ref has them."""
    import fused_layer_norm_cuda  # noqa: PLC0415

    entered = []
    for name in ("rms_forward", "rms_forward_affine", "rms_backward", "rms_backward_affine"):
        function = getattr(fused_layer_norm_cuda, name)

        def counted(*words, name=name, function=function):
            entered.append(name)
            return function(*words)

        setattr(fused_layer_norm_cuda, name, counted)
    norms.fused_layer_norm_cuda = fused_layer_norm_cuda
    for memory_efficient in (False, True):
        qkv = torch.randn(6, 3, 2, 16, requires_grad=True)
        tensor = qkv.unbind(1)[0]
        assert not tensor.is_contiguous()
        weight = torch.rand(16, requires_grad=True)
        output = norms.fused_rms_norm_affine(tensor, weight, [16], 1e-5, memory_efficient)
        plain = norms.fused_rms_norm(tensor, [16], 1e-5, memory_efficient)
        wanted = tensor * (tensor.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        torch.testing.assert_close(output, wanted * weight)
        torch.testing.assert_close(plain, wanted)
        found = torch.autograd.grad(output.sum() + plain.square().sum(), [qkv, weight])
        wanted = torch.autograd.grad((wanted * weight).sum() + wanted.square().sum(), [qkv, weight])
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert sorted(set(entered)) == sorted(
        ["rms_forward", "rms_forward_affine", "rms_backward", "rms_backward_affine"]
    )


def state_is_strict():
    """Exactly `weight` where there is one, and nothing where there is none."""
    from apex.normalization import FusedRMSNorm  # noqa: PLC0415

    assert not FusedRMSNorm(8, elementwise_affine=False).state_dict()
    layer = FusedRMSNorm(8, elementwise_affine=True)
    layer.load_state_dict({"weight": torch.rand(8)}, strict=True, assign=True)


def what_is_absent_says_what_would_help():
    lacking = {
        "FusedNovoGrad": "multi_tensor_novograd",
        "FusedAdagrad": "multi_tensor_adagrad",
        "FusedMixedPrecisionLamb": "multi_tensor_l2norm_mp",
    }
    for name, function in lacking.items():
        said = refusal(getattr(apex.optimizers, name), parameters())
        assert function in str(said)
        assert name in str(said)
        assert "apex-install --at-least compiled --require amp_C" in str(said)
    for package, module in {"apex.mlp": "mlp_cuda", "apex.fused_dense": "fused_dense_cuda"}.items():
        said = refusal(importlib.import_module, package)
        assert said.name == module
        assert f"apex-install --at-least compiled --require {module}" in str(said)
    if importlib.util.find_spec("apex.transformer"):
        for module in ("scaled_masked_softmax_cuda", "fused_rotary_positional_embedding"):
            assert refusal(importlib.import_module, module).name == module


def refusal(function, *words):
    try:
        function(*words)
    except ImportError as error:
        return error
    raise AssertionError(f"{function} {words}: is there")


def no_class_dies_of_anything_else():
    """Every class of apex.optimizers: it is constructed, or it says what it lacks."""
    constructed = set()
    for name, found in vars(apex.optimizers).items():
        if isinstance(found, type):
            try:
                found(parameters(), lr=0.1)
            except ImportError:
                continue
            constructed.add(name)
    assert constructed == {"FusedAdam", "FusedSGD", "FusedLAMB"}


def old_amp_finds_its_functions():
    """apex.amp's loss scaler takes them as soon as amp_C is importable."""
    if importlib.util.find_spec("apex.amp") is None:
        return
    from apex.amp.scaler import LossScaler  # noqa: PLC0415

    scaler = LossScaler("dynamic")
    grads, masters = [torch.ones(3)], [torch.zeros(3)]
    scaler.unscale(grads, masters, None)
    torch.testing.assert_close(masters[0] * scaler.loss_scale(), grads[0])
    scaler.unscale_with_stashed(grads, [torch.ones(3)], masters)
    grads[0][1] = float("nan")
    scaler.unscale(grads, masters, None)
    assert scaler.update_scale() is True


for check in (
    adam_is_torchs,
    adam_keeps_halves_near,
    sgd_is_torchs,
    lamb_steps,
    clipping_is_torchs,
    norms_go_through_the_stand_in,
    state_is_strict,
    what_is_absent_says_what_would_help,
    no_class_dies_of_anything_else,
    old_amp_finds_its_functions,
):
    check()
    print(check.__name__, "passed")
sys.stdout.flush()
