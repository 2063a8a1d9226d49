"""Wall clock of `wheelbuild run` over several cells, from nothing: this checkout's and others'.

    python benchmarks/several_cells.py --checkout OLDER --jobs 2 --data tests/data/recipes/small \\
        --cell cp311-torch2.11-cu130-linux_x86_64=PYTHON311 \\
        --cell cp312-torch2.11-cu130-linux_x86_64=PYTHON312 --out RESULT.json

Each run has a cache of its own, in which the interpreters stand where the farm would have made
them. `--checkout` is another checkout of this project, to compare with; it runs first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_apex import ROOT, clean_environ
from further_python import parse_cell
from measure import describe_run, format_table, run_measured, watch_cores

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_farm(
    arguments: argparse.Namespace, cells: Sequence[tuple[str, str]], *, code: Path, folder: Path
) -> dict[str, Any]:
    """One `wheelbuild run` of a checkout's own code."""
    cache = folder / "cache"
    for cell, python in cells:
        tag, torch, cuda = cell.split("-")[:3]
        name = f"{tag}-{torch}.{arguments.patch}+{cuda}"
        link_environment(Path(python), cache / "environments" / name)
    words = [sys.executable, "-m", "wheelbuild", "--cache", cache]
    words += ["--data", arguments.data.absolute()] if arguments.data else []
    words += ["--json", "run", *(cell for cell, _ in cells), "--arch", arguments.arch]
    words += ["--jobs", str(arguments.jobs), "--index", folder / "index"]
    words += ["--source", arguments.source.absolute()] if arguments.source else []
    words += [word for name in arguments.only for word in ("--only", name)]
    path = [str(code), str(code / "installer" / "src"), os.environ.get("PYTHONPATH", "")]
    environ = {**clean_environ(), "PYTHONPATH": os.pathsep.join(filter(None, path))}
    log = folder / "log"
    with watch_cores() as cores:
        cost = run_measured(words, environ=environ, cwd=code, log=log)
    text = log.read_text()
    return {**cost.to_json(), "cells": read_table(text), "cores": cores}


def link_environment(python: Path, folder: Path) -> None:
    """A folder that is the same virtual environment, with the farm's mark that it is whole."""
    home = python.absolute().parent.parent
    folder.mkdir(parents=True)
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / name).symlink_to(home / name)
    (folder / "complete").write_text("linked\n")


def read_table(log: str) -> list[dict[str, Any]]:
    """What `--json run` printed at its end, after what it logged."""
    rows = json.loads(log[log.rindex("\n[") :] if "\n[" in log else log)
    return [{name: row[name] for name in ("cell", "state", "seconds")} for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--cell", dest="cells", metavar="LABEL=PYTHON", type=parse_cell, action="append")
    add("--checkout", type=Path, action="append", default=[], help="another one to compare with")
    add("--patch", default="0", help="last part of torch's release (default: 0)")
    add("--source", type=Path, help="a checkout of NVIDIA Apex")
    add("--only", action="append", default=[], help="only these modules")
    add("--data", type=Path, help="another data folder")
    add("--arch", default="9.0", help="architectures (default: 9.0)")
    add("--jobs", type=int, default=os.cpu_count(), help="compilers at once")
    add("--out", type=Path, required=True, help="the result, JSON")
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory(prefix="several-cells-") as name:
        for number, code in enumerate([*map(Path.absolute, arguments.checkout), ROOT]):
            folder = Path(name) / str(number)
            folder.mkdir()
            run = run_farm(arguments, arguments.cells, code=code, folder=folder)
            runs.append({"code": "this" if code == ROOT else "another", **run})
            print(json.dumps(runs[-1]), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**describe_run(), "runs": runs}, indent=1) + "\n")
    rows = [[run["code"], run["seconds"], run["cpu_seconds"]] for run in runs]
    print(format_table([["checkout", "wall, s", "CPU-seconds"], *rows]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
