"""What the symbol check of a wheel's modules costs, beside the ways that load them.

Every timed run is a process of its own. Ours: from importing the check's code to its answer for all
modules; which Python and which torch is read before, as in an install. Beside it, for the same
modules: `import torch` and then dlopen(RTLD_NOW) of each; and one `ldd -r` of them all. The page
cache is warm (one untimed run goes first); the same with evicted pages stands beside it
(POSIX_FADV_DONTNEED on the modules, torch's libraries and NVIDIA's; what another process has
mapped stays).

    python benchmarks/symbol_check.py --python PYTHON --wheel WHEEL \\
        --out benchmarks/results/symbol_check
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import describe_run, evict, format_table, run_measured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LIMIT_MS = 50
INSTALLER = Path(__file__).resolve().parents[1] / "installer" / "src"
OURS, IMPORTED, OPENED, LDD = (
    "symbol check",
    "import torch, then dlopen",
    "dlopen alone, torch imported before",
    "ldd -r",
)

_CHECK = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from apex_installer.read.interpreter import read_interpreter
from apex_installer.read.torch_files import find_torch, read_torch
interpreter = read_interpreter(sys.argv[2])
torch = read_torch(find_torch(interpreter.path))
started, cpu = time.perf_counter(), time.process_time()
from apex_installer.read.symbols import check_symbols
imported = time.perf_counter()
missing = check_symbols(sys.argv[3:], interpreter=interpreter, torch=torch)
ended, cpu_ended = time.perf_counter(), time.process_time()
assert not missing, missing[0].line
print(json.dumps({"wall": ended - started, "cpu": cpu_ended - cpu, "import": imported - started}))
"""
_LOAD = """
import ctypes, json, os, sys, time
started, cpu = time.perf_counter(), time.process_time()
import torch
imported, cpu_imported = time.perf_counter(), time.process_time()
for path in sys.argv[1:]:
    ctypes.CDLL(path, mode=os.RTLD_NOW)
ended, cpu_ended = time.perf_counter(), time.process_time()
print(json.dumps({"wall": ended - started, "cpu": cpu_ended - cpu,
                  "dlopen": ended - imported, "dlopen_cpu": cpu_ended - cpu_imported}))
"""

Sample = dict[str, dict[str, float]]
"""Contestant -> `wall` and `cpu` seconds, and what else it says of itself."""


def time_check(arguments: argparse.Namespace, modules: Sequence[Path]) -> Sample:
    """One run of the check in a process of its own."""
    command = [sys.executable, "-I", "-c", _CHECK, INSTALLER, arguments.python, *modules]
    return {OURS: _said(command)}


def time_loading(arguments: argparse.Namespace, modules: Sequence[Path]) -> Sample:
    """One import of torch, and the modules opened after it."""
    said = _said([arguments.python, "-I", "-c", _LOAD, *modules])
    opened = {"wall": said.pop("dlopen"), "cpu": said.pop("dlopen_cpu")}
    return {IMPORTED: said, OPENED: opened}


def time_ldd(arguments: argparse.Namespace, modules: Sequence[Path]) -> Sample:
    """One `ldd -r` of all modules; torch's libraries are in its path, Python itself is not."""
    with tempfile.TemporaryDirectory() as folder:
        cost = run_measured(
            ["ldd", "-r", *modules],
            environ={**os.environ, "LD_LIBRARY_PATH": str(arguments.torch / "lib")},
            log=Path(folder) / "log",
        )
    return {LDD: {"wall": cost.seconds, "cpu": cost.cpu_seconds}}


def _said(command: Sequence[str | Path]) -> dict[str, float]:
    words = [str(word) for word in command]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd="/")
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def race(arguments: argparse.Namespace, modules: Sequence[Path]) -> dict[str, Any]:
    """All runs, one contestant after the other in each round, so that drift hits all alike."""
    contestants = (time_check, time_loading, time_ldd)
    libraries = [*arguments.torch.parent.glob("nvidia/*/lib"), arguments.torch / "lib"]
    pages = [*modules, *libraries, *arguments.torch.glob("_C*.so")]
    for contestant in contestants:
        contestant(arguments, modules)
    warm = [one(arguments, modules) for _ in range(arguments.runs) for one in contestants]
    cold = [
        _evicted(one, arguments, modules, pages=pages)
        for _ in range(arguments.cold_runs)
        for one in contestants
    ]
    return {"warm": summarize(warm), "cold": summarize(cold)}


def _evicted(
    contestant: Callable[[argparse.Namespace, Sequence[Path]], Sample],
    arguments: argparse.Namespace,
    modules: Sequence[Path],
    *,
    pages: Sequence[Path],
) -> Sample:
    evict(pages)
    return contestant(arguments, modules)


def summarize(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """Contestant -> median, least and most of the wall clock, and median CPU, in milliseconds."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for sample in samples for name in sample):
        runs = [sample[name] for sample in samples if name in sample]
        wall = [1000 * run["wall"] for run in runs]
        found[name] = {
            "median": round(statistics.median(wall), 1),
            "min": round(min(wall), 1),
            "max": round(max(wall), 1),
            "cpu": round(statistics.median(1000 * run["cpu"] for run in runs), 1),
            "runs": [round(value, 1) for value in wall],
        }
        if "import" in runs[0]:
            imports = statistics.median(1000 * run["import"] for run in runs)
            found[name]["import"] = round(imports, 1)
    return found


def judge(result: Mapping[str, Any]) -> dict[str, Any]:
    """The promise beside its limit, and what the others take over it."""
    warm = result["warm"]
    ours = warm[OURS]["median"]
    verdict: dict[str, Any] = {
        f"{OURS}, warm, ms": {"value": ours, "limit": LIMIT_MS, "met": ours <= LIMIT_MS}
    }
    for name in (IMPORTED, OPENED, LDD):
        verdict[f"{OURS} / {name}"] = {"value": round(ours / warm[name]["median"], 4)}
    return verdict


def write(result: Mapping[str, Any], out: Path) -> str:
    """`out`.json with everything, `out`.md for people."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    rows: list[list[object]] = [
        ["", "warm, ms", "least", "most", "CPU, ms", "evicted pages, ms", "least", "most"]
    ]
    for name, row in result["warm"].items():
        cold = result["cold"].get(name, {})
        evicted = [cold.get(column, "") for column in ("median", "min", "max")]
        rows.append([name, row["median"], row["min"], row["max"], row["cpu"], *evicted])
    promises: list[list[object]] = [["", "found", "at most", ""]]
    for name, verdict in result["verdict"].items():
        met = {True: "met", False: "NOT MET", None: ""}[verdict.get("met")]
        promises.append([name, verdict["value"], verdict.get("limit", ""), met])
    facts = ("date", "command", "machine", "versions", "load", "wheel", "modules", "runs")
    head = "".join(f"- {name}: {result[name]}\n" for name in facts)
    text = f"# The time of a symbol check\n\n{head}\n{format_table(rows)}\n{format_table(promises)}"
    out.with_suffix(".md").write_text(text)
    return text


def read_versions(arguments: argparse.Namespace) -> dict[str, str]:
    """Python's, torch's and the loader's."""
    asked = "import sys, torch; print(sys.version.split()[0], torch.__version__)"
    words = subprocess.run(
        [str(arguments.python), "-I", "-c", asked], check=True, capture_output=True, text=True
    ).stdout.split()
    glibc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    return {
        "ours": sys.version.split()[0],
        "target": words[0],
        "torch": words[1],
        "loader": glibc,
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--python", type=Path, required=True, help="an interpreter that holds torch")
    add("--wheel", type=Path, required=True, help="a wheel of modules that fit it")
    add("--runs", type=int, default=9, help="timed runs of each (default: 9)")
    add("--cold-runs", type=int, default=7, help="runs with evicted pages (default: 7)")
    add("--out", type=Path, required=True, help="result without suffix: .json and .md are written")
    arguments = parser.parse_args()
    asked = "import importlib.util; print(importlib.util.find_spec('torch').origin)"
    origin = subprocess.run(
        [str(arguments.python), "-I", "-c", asked], check=True, capture_output=True, text=True
    ).stdout
    arguments.torch = Path(origin.strip()).parent
    return arguments


def main() -> int:
    arguments = parse_arguments()
    result = {**describe_run(), "versions": read_versions(arguments)}
    with tempfile.TemporaryDirectory(prefix="symbol-check-") as folder:
        with zipfile.ZipFile(arguments.wheel) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".so")]
            modules = [Path(wheel.extract(name, folder)) for name in names]
        os.sync()  # a page that is not written yet cannot be evicted
        result["load"] = [round(value, 2) for value in os.getloadavg()]
        result.update(race(arguments, modules))
    result["wheel"] = f"{arguments.wheel.name}, {arguments.wheel.stat().st_size} bytes"
    result["modules"] = len(modules)
    result["runs"] = f"{arguments.runs} warm, {arguments.cold_runs} with evicted pages"
    result["verdict"] = judge(result)
    print(write(result, arguments.out))
    return 0 if all(verdict.get("met", True) for verdict in result["verdict"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
