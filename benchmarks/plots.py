"""Pictures of committed results: a build's cores over time, scaling, what each addition costs.

    pip install -e '.[bench]'
    python benchmarks/plots.py --out benchmarks/results/plots \\
        --timeline ACCEPTANCE.json --scaling SCALING.json --added RESULT.json --added …

Nothing is measured here. Each picture is one SVG whose bytes depend on nothing but the results.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedule import simulate_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

KINDS = {"cuda": "#76b900", "header": "#999999", "cpp": "#4477aa", "link": "#222222"}
"""What is compiled, in the order in which it is stacked, and its colour."""
OURS, README, IDEAL = "#4477aa", "#cc6677", "#bbbbbb"
CELL = "cp312-torch2.11-cu130-linux_x86_64"
"""What gpu_acceptance.py builds where it is not told."""
COMMAND = "README's command"
CORES = (1, 2, 4, 8, 16, 32)
"""Simulated in any case."""
WIDTH, HEIGHT = 7.0, 3.0
"""Inches."""


@dataclass(frozen=True)
class Build:
    """One cold build of a result, or one that started with another's objects."""

    cell: str
    arch: str
    cpu_seconds: float
    seconds: float
    first: bool
    """Whether it started from nothing."""


def cores_by_kind(timeline: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[list[float]]]:
    """Moments at which something changes, and for each kind the cores busy from then on. Pure.

    A call's cores are its CPU-seconds over its seconds: nvcc may use several.
    """
    moments = sorted({0.0, *(call[edge] for call in timeline for edge in ("start", "end"))})
    return moments, [
        [
            sum(
                call["cpu_seconds"] / max(call["end"] - call["start"], 1e-3)
                for call in timeline
                if call["kind"] == kind and call["start"] <= moment < call["end"]
            )
            for moment in moments
        ]
        for kind in KINDS
    ]


def read_builds(result: Mapping[str, Any]) -> list[Build]:
    """Of a result of further_python.py, scaling.py, or gpu_acceptance.py. Pure.

    Of scaling.py those on the largest number of cores, one per set of architectures.
    """
    if "builds" in result and isinstance(result["builds"], list):
        arch = result.get("arch") or arch_of(result["command"])
        return [
            _build(one, one["cell"], arch, first=not n) for n, one in enumerate(result["builds"])
        ]
    if "runs" in result:
        most = max(run["cores"] for run in result["runs"])
        runs = [run for run in result["runs"] if run["cores"] == most]
        return [_build(run, result["cell"], run["arch"], first=True) for run in runs]
    command = result["run"]["command"]
    cell = word_after("--cell", command, default=CELL)
    return [_build(result["our build"], cell, arch_of(command), first=True)]


def list_once(builds: Iterable[Build]) -> list[Build]:
    """Of each cell, architectures and beginning the first: several results hold the same. Pure."""
    found: dict[tuple[str, str, bool], Build] = {}
    for build in builds:
        found.setdefault((build.cell, build.arch, build.first), build)
    return list(found.values())


def _build(cost: Mapping[str, Any], cell: str, arch: str, *, first: bool) -> Build:
    return Build(cell, arch, cost["cpu_seconds"], cost["seconds"], first)


def arch_of(command: str) -> str:
    """What `--arch` said in a result's command line; 9.0 is the benchmarks' own default."""
    return word_after("--arch", command, default="9.0")


def word_after(flag: str, command: str, *, default: str) -> str:
    """A flag's value in a command line, or the default. Pure."""
    words = shlex.split(command)
    return words[words.index(flag) + 1] if flag in words else default


def label_of(build: Build, before: Iterable[Build]) -> str:
    """`torch 2.11 cu130, cp310, 9.0: from nothing`, `+ cp311` or `the same with 8.6 too`. Pure.

    What is named depends on the builds `before` it: the same cell with fewer architectures.
    """
    python, torch, cuda = build.cell.split("-")[:3]
    if not build.first:
        return f"+ {python}"
    wanted = code_in(build.arch)
    less = [code_in(one.arch) for one in before if one.first and one.cell == build.cell]
    most = max((one for one in less if one < wanted), key=len, default=None)
    if most:
        return f"the same with {', '.join(sorted(wanted - most))} too"
    return f"{torch.replace('torch', 'torch ')} {cuda}, {python}, {build.arch}: from nothing"


def code_in(arch: str) -> frozenset[str]:
    """`8.6;9.0+PTX` holds `8.6`, `9.0` and `PTX`. Pure."""
    return frozenset(word for one in arch.split(";") for word in one.split("+"))


def draw_timeline(axes: Axes, result: Mapping[str, Any]) -> None:
    """Cores over time: ours by what was compiled, the README command's as it was watched."""
    timeline = result["timeline"]
    calls = timeline["timeline"] if isinstance(timeline, dict) else timeline
    before = (
        sum(timeline["steps"].get(step, 0.0) for step in ("prepare", "capture"))
        if isinstance(timeline, dict)
        else 0.0
    )
    moments, stacks = cores_by_kind(calls)
    times = [before + moment for moment in moments]
    names = [f"wheelbuild: {kind}" for kind in KINDS]
    axes.stackplot(times, stacks, labels=names, colors=list(KINDS.values()), step="post")
    readme = result.get("README build") or result.get("builds", {}).get("README")
    if readme and "cores" in readme:
        axes.plot(range(1, len(readme["cores"]) + 1), readme["cores"], color=README, label=COMMAND)
    elif readme:
        mean = readme["cpu_seconds"] / readme["seconds"]
        ends = [0, readme["seconds"]]
        axes.plot(ends, [mean, mean], color=README, ls="--", label=f"{COMMAND}, mean")
    axes.set(xlabel="seconds", ylabel="cores busy", xlim=0, ylim=0)
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 3, "frameon": False}
    axes.legend(fontsize="x-small", **above)


def draw_scaling(axes: Axes, result: Mapping[str, Any]) -> None:
    """Wall clock over cores, both logarithmic: measured, simulated, and what cannot be bettered."""
    arch = result["runs"][0]["arch"]
    measured = sorted(
        (run["cores"], run["seconds"]) for run in result["runs"] if run["arch"] == arch
    )
    widths = sorted({*CORES, *(cores for cores, _ in measured)})
    found = simulate_all(result["timeline"], result["runs"][0], widths)
    simulated = [(cores, found[str(cores)]) for cores in widths]
    start, least = simulated[0][1] * simulated[0][0], simulated[-1][0]
    cores = sorted({one for one, _ in (*measured, *simulated)})
    axes.plot(
        cores, [start / one for one in cores], color=IDEAL, label="one core's time, shared out"
    )
    axes.plot(*zip(*simulated, strict=True), "o--", mfc="none", color=OURS, label="simulated")
    axes.plot(*zip(*measured, strict=True), "s", color=README, label="measured")
    axes.set(xscale="log", yscale="log", xlabel="cores", ylabel="wall, seconds")
    axes.set_xticks(cores, [str(one) for one in cores])
    axes.minorticks_off()
    axes.set_xlim(cores[0] * 0.9, least * 1.1)
    axes.legend(fontsize="x-small")


def draw_added(axes: Axes, builds: Sequence[Build]) -> None:
    """CPU-seconds of each build, one bar each."""
    labels = [label_of(build, builds[:number]) for number, build in enumerate(builds)]
    places = range(len(builds), 0, -1)
    colours = [OURS if build.first else KINDS["cuda"] for build in builds]
    bars = axes.barh(list(places), [build.cpu_seconds for build in builds], color=colours)
    axes.bar_label(
        bars, [f"{build.cpu_seconds:.0f}" for build in builds], padding=2, fontsize="x-small"
    )
    axes.set_yticks(list(places), labels, fontsize="x-small")
    axes.set(xlabel="CPU-seconds", xlim=(0, 1.12 * max(build.cpu_seconds for build in builds)))


def save(name: str, draw: Any, data: Any, *, out: Path, lines: int = 0) -> Path:
    """One picture; the same data give the same bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra: what is decided here is tested without it

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9})
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(
        figsize=(WIDTH, max(HEIGHT, 0.25 * lines + 0.8)), layout="constrained"
    )
    draw(axes, data)
    axes.spines[["top", "right"]].set_visible(False)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--timeline", type=Path, help="of gpu_acceptance.py or build_apex.py")
    add("--scaling", type=Path, help="of scaling.py")
    several = "of further_python.py, scaling.py or gpu_acceptance.py; several, in order"
    add("--added", type=Path, action="append", default=[], help=several)
    add("--out", type=Path, required=True, help="folder of the pictures")
    arguments = parser.parse_args()
    out = arguments.out
    if arguments.timeline:
        print(save("timeline", draw_timeline, _read(arguments.timeline), out=out))
    if arguments.scaling:
        print(save("scaling", draw_scaling, _read(arguments.scaling), out=out))
    builds = list_once(build for path in arguments.added for build in read_builds(_read(path)))
    if builds:
        print(save("added", draw_added, builds, out=out, lines=len(builds)))
    return 0


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


if __name__ == "__main__":
    raise SystemExit(main())
