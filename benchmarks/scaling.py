"""What cores bring to one cold `wheelbuild build`, and what each architecture more costs.

Every number of cores is measured, the largest first, while the budget lasts: the build is held to
that many CPUs (its affinity, and `--jobs`). From the timeline of the widest run all of them are
simulated too (`schedule.py`), and the result says which is which. Compiler caches are off.

    python benchmarks/scaling.py --cell cp312-torch2.11-cu130-linux_x86_64 --source APEX \\
        --python PYTHON --arch 9.0 --cores 16,8,4,2,1 --budget 300 --out benchmarks/results/scaling

`--arch` may stand several times: each one is built on the largest number of cores. `--data
tests/data/recipes/small` without --source measures the project's own small package.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_apex import ROOT, farm_environ, read_account
from measure import describe_run, format_table, run_measured
from schedule import simulate_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SPARE = 1.2
"""A run is begun where so many times what it is thought to take is left of the budget."""


def build(arguments: argparse.Namespace, *, arch: str, cores: int, folder: Path) -> dict[str, Any]:
    """One cold build on so many CPUs: its cost and its account."""
    words = [sys.executable, "-m", "wheelbuild", "--cache", folder / "cache"]
    words += ["--data", arguments.data.absolute()] if arguments.data else []
    words += ["build", arguments.cell, "--python", arguments.python.absolute(), "--arch", arch]
    words += ["--jobs", str(cores), "--index", folder / "index"]
    words += ["--source", arguments.source.absolute()] if arguments.source else []
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])  # what is started inherits it
    try:
        cost = run_measured(words, environ=farm_environ(), cwd=ROOT, log=folder / "log")
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{error}\n{error.output}") from None
    finally:
        os.sched_setaffinity(0, allowed)
    data = read_account(folder / "cache")
    run = {
        "arch": arch,
        "cores": cores,
        **cost.to_json(),
        "compile_seconds": data["steps"]["compile"],
    }
    return {"run": run, "timeline": data["timeline"]}


def runs_wanted(arches: Sequence[str], cores: Sequence[int]) -> list[tuple[str, int]]:
    """All architectures on the largest number of cores, then the first on the others. Pure."""
    widest, *others = sorted(set(cores), reverse=True)
    return [*((arch, widest) for arch in arches), *((arches[0], one) for one in others)]


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All runs that the budget has room for."""
    ends_at = time.monotonic() + arguments.budget
    runs: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    timeline: list[Mapping[str, Any]] = []
    simulated: dict[str, float] = {}
    for number, (arch, cores) in enumerate(runs_wanted(arguments.arch, arguments.cores)):
        thought = simulated.get(str(cores), 0.0)
        if time.monotonic() + SPARE * thought > ends_at:
            left_out.append({"arch": arch, "cores": cores, "why": "the budget"})
            continue
        made = build(arguments, arch=arch, cores=cores, folder=folder / str(number))
        print(json.dumps(made["run"]), flush=True)
        runs.append(made["run"])
        if number == 0:
            timeline = made["timeline"]
            simulated = simulate_all(timeline, made["run"], arguments.cores)
    return {"runs": runs, "left_out": left_out, "simulated": simulated, "timeline": timeline}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--cell", required=True, help="its label")
    add("--python", type=Path, required=True, help="an interpreter that holds the cell's torch")
    add("--source", type=Path, help="a checkout of NVIDIA Apex")
    add("--data", type=Path, help="another data folder")
    add("--arch", action="append", help="architectures; again: one more build (default: 9.0)")
    add("--cores", type=_numbers, default=[os.cpu_count() or 1, 1], help="16,8,4,2,1")
    add("--budget", type=float, default=300, help="seconds for all of it")
    add("--out", type=Path, required=True, help="the result, JSON")
    arguments = parser.parse_args()
    arguments.arch = arguments.arch or ["9.0"]
    return arguments


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        result = {**describe_run(), "cell": arguments.cell, **measure(arguments, Path(name))}
    out = arguments.out.with_suffix(".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    rows: list[list[object]] = [["arch", "cores", "wall, s", "CPU-seconds"]]
    rows += [[r["arch"], r["cores"], r["seconds"], r["cpu_seconds"]] for r in result["runs"]]
    simulated = [[cores, seconds] for cores, seconds in result["simulated"].items()]
    print(format_table(rows))
    print(format_table([["cores", "simulated, s"], *simulated]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
