"""What a further Python of one torch × CUDA costs, where the first one's objects are there.

The first interpreter builds from nothing. Each further one starts with the objects that the first
one left, and with nothing else; so none helps another. Compiler caches are off.

    python benchmarks/further_python.py --source APEX --arch "8.0;8.6;9.0+PTX" --jobs 16 \\
        --cell cp310-torch2.11-cu130-linux_x86_64=PYTHON310 \\
        --cell cp311-torch2.11-cu130-linux_x86_64=PYTHON311 \\
        --out benchmarks/results/further_python.json

`--data tests/data/recipes/small` without --source measures the project's own small package.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_apex import ROOT, farm_environ, read_account
from measure import describe_run, format_table, run_measured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 0.3
"""Promised: CPU-seconds of a further Python over those of the first one."""


def build(arguments: argparse.Namespace, cell: str, python: str, *, cache: Path) -> dict[str, Any]:
    """One cold `wheelbuild build`: what it cost, and which compilers it started."""
    words = [sys.executable, "-m", "wheelbuild", "--cache", cache]
    words += ["--data", arguments.data.absolute()] if arguments.data else []
    words += ["build", cell, "--python", python, "--arch", arguments.arch]
    words += ["--jobs", str(arguments.jobs), "--index", cache / "index"]
    words += ["--source", arguments.source.absolute()] if arguments.source else []
    log = cache.with_name(f"{cache.name}.log")
    cost = run_measured(words, environ=farm_environ(), cwd=ROOT, log=log)
    return {"cell": cell, **cost.to_json(), **count_steps(read_account(cache)["timeline"])}


def count_steps(timeline: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many of each kind were run, and their CPU-seconds. Pure."""
    kinds = sorted({step["kind"] for step in timeline})
    return {
        "steps": {kind: sum(step["kind"] == kind for step in timeline) for kind in kinds},
        "cpu_seconds_by_kind": {
            kind: round(sum(s["cpu_seconds"] for s in timeline if s["kind"] == kind), 1)
            for kind in kinds
        },
    }


def judge(builds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each further Python's CPU-seconds over the first one's; no device code again. Pure."""
    first, *further = builds
    return {
        build["cell"]: {
            "value": round(build["cpu_seconds"] / first["cpu_seconds"], 3),
            "limit": LIMIT,
            "device_objects": build["steps"].get("cuda", 0),
            "met": build["cpu_seconds"] <= LIMIT * first["cpu_seconds"]
            and not build["steps"].get("cuda"),
        }
        for build in further
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All builds, one after the other, each in a cache of its own."""
    builds: list[dict[str, Any]] = []
    for number, (cell, python) in enumerate(arguments.cells):
        cache = folder / f"cache-{number}"
        cache.mkdir()
        if builds:
            # Links do: the store replaces files and never writes into them.
            shutil.copytree(folder / "first", cache / "objects", copy_function=os.link)
        builds.append(build(arguments, cell, python, cache=cache))
        print(json.dumps(builds[-1]), flush=True)
        if number == 0:
            shutil.copytree(cache / "objects", folder / "first", copy_function=os.link)
    return {"builds": builds, "verdict": judge(builds)}


def parse_cell(text: str) -> tuple[str, str]:
    """`LABEL=PYTHON`; the interpreter is not resolved, an environment is known by its own link."""
    cell, equals, python = text.partition("=")
    if not equals or not Path(python).is_file():
        raise argparse.ArgumentTypeError(f"{text!r}: LABEL=PYTHON, an interpreter, is wanted")
    return cell, str(Path(python).absolute())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    cells = "a cell and an interpreter that holds its torch; the first one is measured against"
    add(
        "--cell", dest="cells", metavar="LABEL=PYTHON", type=parse_cell, action="append", help=cells
    )
    add("--source", type=Path, help="a checkout of NVIDIA Apex")
    add("--data", type=Path, help="another data folder")
    add("--arch", default="9.0", help="architectures (default: 9.0)")
    add("--jobs", type=int, default=os.cpu_count(), help="compilers at once")
    add("--out", type=Path, required=True, help="the result, JSON")
    add("--keep", type=Path, help="an empty folder that the caches are left in")
    arguments = parser.parse_args()
    if len(arguments.cells or ()) < 2:  # noqa: PLR2004
        parser.error("at least two --cell are wanted")
    with tempfile.TemporaryDirectory(prefix="further-python-") as name:
        folder = arguments.keep.absolute() if arguments.keep else Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        result = {**describe_run(), **measure(arguments, folder)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    rows: list[list[object]] = [["cell", "wall, s", "CPU-seconds", "compilers started"]]
    rows += [[b["cell"], b["seconds"], b["cpu_seconds"], b["steps"]] for b in result["builds"]]
    print(format_table(rows))
    return 0 if all(row["met"] for row in result["verdict"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
