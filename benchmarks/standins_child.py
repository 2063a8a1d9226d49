"""Run by `standins.py` in a process of its own, with one install of Apex on PYTHONPATH.

`speed` times norms and optimizers by CUDA events; `block` runs a block like SeedVR's and keeps what
came out; `compare` reads what several such runs kept. Each prints one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

HEADS, HEAD = 20, 128
WIDTHS = (2560, 3072)
"""Block norms of SeedVR's two models; its query and key norms are over one head."""
LENGTHS = (4096, 32760)
EPS = 1e-5
NORM_FUNCTIONS = ("rms_forward", "rms_forward_affine")
Numbers = dict[str, float]


def time_calls(function: Callable[[], object], *, rounds: int, calls: int) -> float:
    """Milliseconds of one call: the median of `rounds`, each of `calls` that are queued at once."""
    for _ in range(3):
        function()
    return statistics.median(_time_round(function, calls) / calls for _ in range(rounds))


def _time_round(function: Callable[[], object], calls: int) -> float:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    for _ in range(calls):
        function()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last))


def autocast_device() -> str:
    """In a rehearsal the operators that autocast must find run on the CPU."""
    return torch.empty(0, device="cuda").device.type


def norm_cases(lengths: tuple[int, ...], widths: tuple[int, ...], device: str) -> dict[str, Any]:
    """Name -> (layer, input). Query and key come from `unbind`, so that they are not contiguous."""
    from apex.normalization import FusedLayerNorm, FusedRMSNorm  # noqa: PLC0415 - the install's

    cases: dict[str, Any] = {}
    for length in lengths:
        for kind in (FusedRMSNorm, FusedLayerNorm):
            for width in widths:
                layer = kind(width, eps=EPS, elementwise_affine=False)
                tensor = torch.randn(length, width, device=device, dtype=torch.bfloat16)
                cases[f"{kind.__name__}, {length}×{width}"] = (layer, tensor)
            qkv = torch.randn(length, 3, HEADS, HEAD, device=device, dtype=torch.bfloat16)
            layer = kind(HEAD, eps=EPS, elementwise_affine=True).to(device)
            cases[f"{kind.__name__} affine, {length}×{HEADS}×{HEAD}"] = (layer, qkv.unbind(1)[0])
    return cases


def time_norms(*, small: bool, device: str) -> Numbers:
    """Forward as at inference, and forward with backward, under autocast to bf16."""
    lengths, widths = ((16,), (256,)) if small else (LENGTHS, WIDTHS)
    rounds, calls = (3, 2) if small else (15, 20)
    times: Numbers = {}
    for name, (layer, tensor) in norm_cases(lengths, widths, device).items():
        leaf = tensor.detach().requires_grad_()
        grad = torch.randn(tensor.shape, device=device, dtype=torch.bfloat16)

        def forward(layer: Any = layer, tensor: Any = tensor) -> None:
            with torch.no_grad(), torch.autocast(autocast_device(), torch.bfloat16):
                layer(tensor)

        def both(layer: Any = layer, leaf: Any = leaf, grad: Any = grad) -> None:
            with torch.autocast(autocast_device(), torch.bfloat16):
                output = layer(leaf)
            inputs = [leaf, *layer.parameters()]
            torch.autograd.grad(output, inputs, grad.to(output.dtype))

        times[f"{name}: forward"] = time_calls(forward, rounds=rounds, calls=calls)
        times[f"{name}: forward and backward"] = time_calls(both, rounds=rounds, calls=calls)
    return times


def make_parameters(dtype: torch.dtype, *, small: bool, device: str) -> list[Any]:
    """A transformer's: 12 layers of width 1024, 151 million elements in 148 tensors."""
    layers, width = (2, 16) if small else (12, 1024)
    shapes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    shapes += [(3 * width,), (width,), (4 * width,), (width,)]  # type: ignore[list-item]
    shapes += [(width,)] * 4  # type: ignore[list-item]
    made = []
    for shape in shapes * layers:
        parameter = torch.nn.Parameter(torch.randn(shape, device=device).mul(0.02).to(dtype))
        parameter.grad = torch.randn(shape, device=device).mul(1e-3).to(dtype)
        made.append(parameter)
    return made


def time_optimizers(*, small: bool, device: str) -> Numbers:
    """One step over all parameters."""
    from apex import optimizers  # noqa: PLC0415 - the install's

    rounds, calls = (3, 2) if small else (11, 5)
    single, half = torch.float32, torch.bfloat16
    cases: dict[str, tuple[Any, torch.dtype, dict[str, Any]]] = {
        "FusedAdam, fp32": (optimizers.FusedAdam, single, {"weight_decay": 0.01}),
        "FusedAdam, bf16": (optimizers.FusedAdam, half, {"weight_decay": 0.01}),
        "FusedAdam, capturable": (optimizers.FusedAdam, single, {"capturable": True}),
        "FusedSGD, momentum": (optimizers.FusedSGD, single, {"lr": 1e-4, "momentum": 0.9}),
        "FusedLAMB": (optimizers.FusedLAMB, single, {}),
    }
    times: Numbers = {}
    for name, (kind, dtype, words) in cases.items():
        optimizer = kind(make_parameters(dtype, small=small, device=device), **words)
        times[name] = time_calls(optimizer.step, rounds=rounds, calls=calls)
        del optimizer
    return times


def capture_step() -> str:
    """Whether a CUDA graph captures a capturable step: nothing in it may wait for the GPU."""
    from apex import optimizers  # noqa: PLC0415 - the install's

    parameters = make_parameters(torch.float16, small=True, device="cuda")
    optimizer = optimizers.FusedAdam(parameters, capturable=True, master_weights=True)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        optimizer.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            optimizer.step()
    except RuntimeError as error:
        return f"no: {str(error).splitlines()[0]}"
    before = parameters[0].detach().clone()
    graph.replay()
    return "no: a replay changes nothing" if torch.equal(parameters[0], before) else "yes"


class Block(torch.nn.Module):
    """The parts of SeedVR's that meet Apex: norms as it makes them, modulated in place."""

    def __init__(self, width: int, heads: int, head: int) -> None:
        super().__init__()
        from apex.normalization import FusedRMSNorm  # noqa: PLC0415 - the install's

        self.heads, self.head = heads, head
        self.norm = FusedRMSNorm(width, eps=EPS, elementwise_affine=False)
        self.qkv = torch.nn.Linear(width, 3 * heads * head, bias=False)
        self.norm_q = FusedRMSNorm(head, eps=EPS, elementwise_affine=True)
        self.norm_k = FusedRMSNorm(head, eps=EPS, elementwise_affine=True)
        self.out = torch.nn.Linear(heads * head, width)
        self.vid_out_norm = FusedRMSNorm(width, eps=EPS, elementwise_affine=True)

    def forward(self, hidden: Any, scale: Any, shift: Any) -> Any:
        modulated = self.norm(hidden)
        modulated.mul_(scale).add_(shift)  # in place: the output must be nobody else's memory
        qkv = self.qkv(modulated).reshape(len(hidden), 3, self.heads, self.head)
        query, key, value = qkv.unbind(1)
        query, key = self.norm_q(query), self.norm_k(key)
        parts = (part.transpose(0, 1)[None] for part in (query, key, value))
        mixed = functional.scaled_dot_product_attention(*parts)[0].transpose(0, 1)
        return self.vid_out_norm(hidden + self.out(mixed.reshape(len(hidden), -1)))


def count_calls(module: Any) -> dict[str, int]:
    """Every function of the module under test, wrapped: the counts grow as they are entered."""
    counts = dict.fromkeys(NORM_FUNCTIONS, 0)

    def counted(name: str, function: Any) -> Any:
        def called(*words: Any) -> Any:
            counts[name] += 1
            return function(*words)

        return called

    for name in NORM_FUNCTIONS:
        setattr(module, name, counted(name, getattr(module, name)))
    return counts


def run_block(out: Path, *, small: bool, device: str) -> dict[str, Any]:
    """Load a state strictly, run under autocast, keep the output."""
    module: Any = importlib.import_module("fused_layer_norm_cuda")
    counts = count_calls(module)
    length, width, heads, head = (16, 256, 2, 16) if small else (4096, WIDTHS[0], HEADS, HEAD)
    block: Any = Block(width, heads, head)
    torch.manual_seed(1)
    shapes = {name: tensor.shape for name, tensor in block.state_dict().items()}
    state = {name: torch.randn(shape).mul(0.02).add(0.1) for name, shape in shapes.items()}
    block.load_state_dict({n: t.to(device) for n, t in state.items()}, strict=True, assign=True)
    hidden = torch.randn(length, width).to(device, torch.bfloat16)
    scale, shift = (torch.rand(width).to(device, torch.bfloat16) for _ in range(2))
    before = hidden.clone()
    with torch.no_grad(), torch.autocast(autocast_device(), torch.bfloat16):
        output = block(hidden, scale, shift)
    torch.save(output.detach().cpu(), out)
    return {
        "module": Path(module.__file__).name,
        "stand-in": bool(getattr(module, "__apex_fallback__", False)),
        "entered": counts,
        "state": sorted(shapes),
        "output": f"{tuple(output.shape)} {output.dtype}",
        "finite": bool(output.isfinite().all()),
        "input untouched": bool(torch.equal(hidden, before)),
    }


def compare_outputs(paths: list[Path]) -> dict[str, Any]:
    """Each beside the first one: the largest and the mean distance, and the share of equal bits."""
    first = torch.load(paths[0])
    found = {}
    for path in paths[1:]:
        other = torch.load(path)
        distance = (other.double() - first.double()).abs()
        found[path.stem] = {
            "largest difference": float(f"{distance.max().item():.3g}"),
            "mean difference": float(f"{distance.mean().item():.3g}"),
            "mean magnitude": float(f"{first.double().abs().mean().item():.3g}"),
            "equal elements": round((other == first).double().mean().item(), 4),
        }
    return {"beside": paths[0].stem, "others": found}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["speed", "block", "compare"])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.small:
        import cuda_on_cpu  # noqa: PLC0415 - the rehearsal alone needs it

        cuda_on_cpu.pretend()
    device = "cuda"
    if arguments.what == "speed":
        found: dict[str, Any] = {
            "norms": time_norms(small=arguments.small, device=device),
            "optimizers": time_optimizers(small=arguments.small, device=device),
            "captured by a graph": "" if arguments.small else capture_step(),
        }
    elif arguments.what == "block":
        found = run_block(arguments.paths[0], small=arguments.small, device=device)
    else:
        found = compare_outputs(arguments.paths)
    print(json.dumps({"torch": torch.__version__, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
