"""What wheels of one architecture each cost beside the plain one.

Two cold builds of the same cell, the plain wheel alone and with a variant per architecture, each in
a cache of its own; then all further steps (repair, stamp, test, publish) for every wheel. Compiler
caches are off. The promise is about the build, where all compiling is; the whole is told too.

    python benchmarks/variants.py --data tests/data/recipes/small --python PYTHON311 \\
        --cell cp311-torch2.11-cu130-linux_x86_64 \\
        --out benchmarks/results/variants.json
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_apex import ROOT, farm_environ, read_account
from measure import describe_run, format_table, run_measured

from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 1.1
"""Promised: CPU-seconds of plain and variants over those of plain alone."""
ARCHITECTURES = "7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX"


def write_data(given: Path, *, into: Path, variants: bool) -> Path:
    """The data folder, in which every cell asks for variants or none does."""
    shutil.copytree(given, into)
    matrix = into / "matrix.toml"
    text = re.sub(r"^variants = .*\n", "", matrix.read_text(), flags=re.MULTILINE)
    asked = "[[cells]]\nvariants = true\n" if variants else "[[cells]]\n"
    matrix.write_text(text.replace("[[cells]]\n", asked))
    return into


def run(arguments: argparse.Namespace, folder: Path, *, variants: bool) -> dict[str, Any]:
    """One cold build, then all steps on what it left: what each cost, and what came of it."""
    data = write_data(arguments.data, into=folder / "data", variants=variants)
    command = [sys.executable, "-m", "wheelbuild", "--data", data, "--cache", folder / "cache"]
    words = [arguments.cell, "--python", arguments.python, "--arch", arguments.arch]
    words += ["--jobs", str(arguments.jobs), "--index", folder / "index"]
    words += ["--source", arguments.source.absolute()] if arguments.source else []
    cost = {}
    for step in ("build", "run"):
        log = folder / f"{step}.log"
        cost[step] = run_measured(
            [*command, step, *words], environ=farm_environ(), cwd=ROOT, log=log
        )
    left = read_account(folder / "cache")
    entries = DirectoryStore(folder / "index").entries()
    return {
        "build": cost["build"].to_json(),
        "all steps on what was built": cost["run"].to_json(),
        "links again": len(left["variants"]["links"]),
        "bytes": {entry.variant or "plain": entry.size for entry in entries},
        "torch": left["interpreter"]["torch"],
        "nvcc": left["toolkit"]["version"] if left["toolkit"] else None,
        "compiler": left["compiler"]["version"],
    }


def judge(plain: Mapping[str, Any], both: Mapping[str, Any]) -> dict[str, Any]:
    """CPU-seconds of the builds, and of build and all steps together, as ratios. Pure."""
    build = both["build"]["cpu_seconds"] / plain["build"]["cpu_seconds"]
    steps = [
        one["build"]["cpu_seconds"] + one["all steps on what was built"]["cpu_seconds"]
        for one in (both, plain)
    ]
    return {
        "build": {"value": round(build, 3), "limit": LIMIT, "met": build <= LIMIT},
        "build and all steps": {"value": round(steps[0] / steps[1], 3)},
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both, one after the other."""
    found = {}
    for name, variants in (("plain", False), ("plain and variants", True)):
        own = folder / name.replace(" ", "-")
        own.mkdir(parents=True)
        found[name] = run(arguments, own, variants=variants)
        print(json.dumps(found[name]), flush=True)
    return {**found, "verdict": judge(found["plain"], found["plain and variants"])}


def table_of(result: Mapping[str, Any]) -> Sequence[Sequence[object]]:
    """For people."""
    rows: list[list[object]] = [["", "build, CPU-s", "all steps, CPU-s", "MB of each wheel"]]
    for name in ("plain", "plain and variants"):
        one = result[name]
        sizes = " ".join(f"{label} {size / 1e6:.2f}" for label, size in one["bytes"].items())
        steps = one["all steps on what was built"]["cpu_seconds"]
        rows.append([name, one["build"]["cpu_seconds"], steps, sizes])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--cell", required=True, help="its label")
    add("--python", required=True, help="an interpreter that holds its torch")
    add("--data", type=Path, default=ROOT / "wheelbuild", help="data folder (default: the farm's)")
    add("--source", type=Path, help="a checkout of NVIDIA Apex")
    add("--arch", default=ARCHITECTURES, help=f"default: {ARCHITECTURES}")
    add("--jobs", type=int, default=os.cpu_count(), help="compilers at once")
    add("--out", type=Path, required=True, help="the result, JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="variants-") as name:
        result = {
            **describe_run(),
            "architectures": arguments.arch,
            **measure(arguments, Path(name)),
        }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(format_table(table_of(result)))
    return 0 if result["verdict"]["build"]["met"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
