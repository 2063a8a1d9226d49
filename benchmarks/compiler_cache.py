"""What our own objects and what sccache bring to a second build.

nothing: neither. objects: those of the first build, in another folder. sccache, first: fills it.
sccache, again: with what the first filled and none of our objects, in a folder of the same name, as
machines of one kind have it. elsewhere: in another folder. another Python: the same for --further.

    python benchmarks/compiler_cache.py --cell CELL --python PYTHON --jobs 2 \\
        --data tests/data/recipes/small --further CELL=PYTHON --out RESULT.json
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
from further_python import count_steps, parse_cell
from measure import describe_run, format_table, run_measured

if TYPE_CHECKING:
    from collections.abc import Sequence


def build(
    arguments: argparse.Namespace, cell: tuple[str, str], *, folder: Path, words: Sequence[str] = ()
) -> dict[str, Any]:
    """One build in `folder`; the CPU-seconds hold those of the server, which compiles."""
    command = [sys.executable, "-m", "wheelbuild", "--cache", folder / "cache"]
    command += ["--data", arguments.data.absolute()] if arguments.data else []
    command += ["build", cell[0], "--python", cell[1], "--arch", arguments.arch, *words]
    command += ["--jobs", str(arguments.jobs), "--index", folder / "index"]
    command += [word for name in arguments.only for word in ("--only", name)]
    command += ["--source", arguments.source.absolute()] if arguments.source else []
    environ = {**farm_environ(), "SCCACHE_DIR": str(folder.parent / "sccache")}
    cost = run_measured(command, environ=environ, cwd=ROOT, log=folder / "log")
    data = read_account(folder / "cache", works="work*")
    steps = count_steps(data["timeline"])
    return {
        "compile_seconds": data["steps"]["compile"],
        **cost.to_json(),
        **steps,
        "sccache": data.get("compiler_cache"),
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    first = (arguments.cell, arguments.python)
    cached = ("--compiler-cache", "sccache")
    plan: list[tuple[str, str, tuple[str, str], Sequence[str]]] = [
        ("nothing", "0", first, ()),
        ("objects", "1", first, ()),
        ("sccache, first", "2", first, cached),
        ("sccache, again", "2", first, cached),
        ("sccache, elsewhere", "3", first, cached),
        *(("sccache, another Python", "4", one, cached) for one in arguments.further or ()),
    ]
    found: dict[str, Any] = {}
    for name, place, cell, words in plan:
        own = folder / place
        if name == "objects":
            objects = folder / "0" / "cache" / "objects"
            shutil.copytree(objects, own / "cache" / "objects", copy_function=os.link)
        else:
            shutil.rmtree(own, ignore_errors=True)
        found[name] = build(arguments, cell, folder=own, words=words)
        print(name, json.dumps(found[name]), flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--cell", required=True, help="its label")
    add("--python", required=True, help="an interpreter that holds the cell's torch")
    add("--further", metavar="LABEL=PYTHON", type=parse_cell, action="append")
    add("--source", type=Path, help="a checkout of NVIDIA Apex")
    add("--only", action="append", default=[], help="only these modules")
    add("--data", type=Path, help="another data folder")
    add("--arch", default="9.0", help="architectures (default: 9.0)")
    add("--jobs", type=int, default=os.cpu_count(), help="compilers at once")
    add("--out", type=Path, required=True, help="the result, JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compiler-cache-") as name:
        result = {**describe_run(), "builds": measure(arguments, Path(name))}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    rows = [[n, b["seconds"], b["cpu_seconds"], b["steps"]] for n, b in result["builds"].items()]
    print(format_table([["with", "wall, s", "CPU-seconds", "compilers started"], *rows]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
