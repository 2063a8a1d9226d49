"""CPU-seconds per module of real Apex, as the farm compiles it: what the recipe states.

One build from nothing, all modules that are named; the log says what each step took, also of a
build that one module ended. Precompiled headers belong to no module and are told by themselves.

    python benchmarks/module_seconds.py --cell cp312-torch2.11-cu130-linux_x86_64 --source APEX \\
        --python PYTHON --arch 9.0 --jobs 16 --out benchmarks/results/module_seconds.json MODULE...
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_apex import Task, build_by_farm
from measure import describe_run

if TYPE_CHECKING:
    from collections.abc import Mapping

STEP = re.compile(r"^# (?P<label>.+): status 0, (?P<seconds>[\d.]+) CPU-s", re.MULTILINE)
SHARED = "shared"


def sum_by_module(log: str) -> Mapping[str, float]:
    """CPU-seconds by module, largest first; a label is `module: file`. Pure."""
    total: Counter[str] = Counter()
    for step in STEP.finditer(log):
        module, _, file = step["label"].partition(": ")
        total[module if file else SHARED] += float(step["seconds"])
    return {module: round(seconds, 1) for module, seconds in total.most_common()}


def measure(task: Task, *, timeout: float | None) -> dict[str, Any]:
    """Build; what failed is said, and what was compiled before it counts."""
    failure = None
    try:
        build_by_farm(task, log="build.txt", timeout=timeout)
    except subprocess.CalledProcessError as error:
        failure = str(error.output)[-2000:]
        print(failure, file=sys.stderr)
    log = (task.work / "job" / "work" / "build.log").read_text(errors="replace")
    return {"failure": failure, "cpu_seconds": dict(sum_by_module(log))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("modules", nargs="+", metavar="MODULE", help="modules of the recipe")
    add("--cell", required=True, help="its label")
    add("--source", type=Path, required=True, help="a checkout of NVIDIA Apex")
    add("--python", type=Path, required=True, help="an interpreter that holds the cell's torch")
    add("--arch", default="9.0", help="one architecture (default: 9.0)")
    add("--jobs", type=int, default=os.cpu_count(), help="compilers at once")
    add("--timeout", type=float, help="seconds after which the build is ended")
    add("--out", type=Path, required=True, help="the result, JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="module-seconds-") as name:
        task = Task(
            cell=arguments.cell,
            source=arguments.source.absolute(),
            python=arguments.python.absolute(),
            arch=arguments.arch,
            jobs=arguments.jobs,
            folder=Path(name),
            only=tuple(arguments.modules),
        )
        result = {**describe_run(), **measure(task, timeout=arguments.timeout)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["cpu_seconds"], indent=1))
    return 1 if result["failure"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
