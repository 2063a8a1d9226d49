"""Building Apex: its README's command with its parallel settings, and `wheelbuild build`.

One cell, one architecture, both from nothing, one after the other on the same machine; compiler
caches are off. Then what a second build costs where nothing changed, and where one line did.

    python benchmarks/build_apex.py --cell cp312-torch2.11-cu130-linux_x86_64 --source APEX \\
        --python PYTHON --arch 9.0 --jobs 16 --out benchmarks/results/build_apex
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Cost, describe_run, format_table, run_measured

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent
README_FLAGS = {"APEX_CPP_EXT": "1", "APEX_CUDA_EXT": "1"}
README_PARALLEL = {"NVCC_APPEND_FLAGS": "--threads 4", "APEX_PARALLEL_BUILD": "8"}
TIMELINE_WIDTH = 60
SHORT_SOURCE = "csrc/update_scale_hysteresis.cu"
"""The `.cu` that one line is added to."""


@dataclass(frozen=True)
class Task:
    """What is built, by which interpreter, where."""

    cell: str
    source: Path
    python: Path
    arch: str
    jobs: int
    folder: Path
    only: tuple[str, ...] = ()
    """Modules for a short trial; the README's command knows no such choice."""

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def work(self) -> Path:
        """The cell's work folder; its suffix is the farm's to choose."""
        return next((self.cache / "work").glob(f"{self.cell}*"))


def clean_environ() -> dict[str, str]:
    """The caller's variables without what would change a build, and without compiler caches."""
    dropped = ("PYTHON", "PIP_", "APEX_", "NVCC_", "TORCH_", "MAX_JOBS", "CFLAGS", "CXXFLAGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "CCACHE_DISABLE": "1", "PIP_CONFIG_FILE": os.devnull}


def build_by_readme(
    task: Task,
    *,
    name: str,
    extra: Mapping[str, str | None] | None = None,
    nice: int = 0,
    timeout: float | None = None,
) -> tuple[Cost, Path]:
    """The README's command in a copy of the source; returns its cost and its wheel.

    `pip wheel` in place of `pip install`: the same build, nothing installed. A variable of `extra`
    that is None is not set.
    """
    copy = task.folder / name / "apex"
    shutil.copytree(task.source, copy, ignore=shutil.ignore_patterns(".git", "build"))
    out = task.folder / name / "out"
    asked: dict[str, str | None] = {
        **clean_environ(),
        **README_FLAGS,
        **README_PARALLEL,
        "TORCH_CUDA_ARCH_LIST": task.arch,
        **(extra or {}),
    }
    environ = {name: value for name, value in asked.items() if value is not None}
    flags: list[str | Path] = ["--no-build-isolation", "--no-deps", "--no-cache-dir", "-w", out]
    command = ["nice", "-n", str(nice), task.python, "-m", "pip", "wheel", "-v", *flags, "."]
    log = task.folder / name / "log"
    cost = run_measured(command, environ=environ, cwd=copy, log=log, timeout=timeout)
    return cost, next(out.glob("*.whl"))


def farm_command(task: Task, *words: str | Path) -> list[str | Path]:
    """`wheelbuild` of this checkout."""
    return [sys.executable, "-m", "wheelbuild", "--cache", task.cache, *words]


def farm_environ() -> dict[str, str]:
    """The checkout's own packages first, then what the caller's PYTHONPATH adds."""
    path = [str(ROOT), str(ROOT / "installer" / "src"), os.environ.get("PYTHONPATH", "")]
    return {**clean_environ(), "PYTHONPATH": os.pathsep.join(filter(None, path))}


def cell_words(task: Task, *, source: Path | None = None) -> list[str | Path]:
    """What `build` and `run` are told alike."""
    words: list[str | Path] = [task.cell, "--python", task.python, "--arch", task.arch]
    words += ["--source", source or task.source, "--jobs", str(task.jobs)]
    words += ["--index", task.folder / "index"]
    return words + [word for name in task.only for word in ("--only", name)]


def build_by_farm(
    task: Task, *, log: str, source: Path | None = None, timeout: float | None = None
) -> tuple[Cost, Path]:
    """`wheelbuild build`, the whole tree of its processes counted; returns cost and wheel."""
    command = farm_command(task, "build", *cell_words(task, source=source))
    cost = run_measured(
        command, environ=farm_environ(), cwd=ROOT, log=task.folder / log, timeout=timeout
    )
    return cost, next((task.work / "built").glob("*.whl"))


def finish_wheel(task: Task, built: Path) -> Path:
    """Repair and stamp: the wheel as it is published."""
    wheel = built
    for step in ("repair", "stamp"):
        command = [str(word) for word in farm_command(task, step, wheel)]
        ran = subprocess.run(
            command, env=farm_environ(), cwd=ROOT, check=True, capture_output=True, text=True
        )
        wheel = Path(ran.stdout.strip().splitlines()[-1])
    return wheel


def count_written(folder: Path, suffix: str, *, since: float) -> int:
    """How many files with this ending were written below a folder since a time."""
    return sum(path.stat().st_mtime >= since for path in folder.rglob(f"*{suffix}"))


def rebuild(task: Task, *, change: bool) -> dict[str, Any]:
    """Build again, after one line more in one `.cu` or after nothing; objects and links counted."""
    source = task.folder / "changed"
    if not source.exists():
        shutil.copytree(task.source, source)
        build_by_farm(task, source=source, log="settle.log")  # times of a new copy are new
    if change:
        with (source / SHORT_SOURCE).open("a") as stream:
            stream.write("// one line more\n")
    since = time.time()
    cost, _ = build_by_farm(task, source=source, log=f"rebuild-{change}.log")
    work = task.work / "job" / "work"
    return {
        "seconds": round(cost.seconds, 2),
        "cpu_seconds": round(cost.cpu_seconds, 2),
        "objects": count_written(task.cache / "objects", ".o", since=since),
        "links": count_written(work, ".so", since=since),
    }


def wheel_facts(wheel: Path) -> dict[str, Any]:
    """Size as it travels and unpacked."""
    with zipfile.ZipFile(wheel) as archive:
        unpacked = sum(item.file_size for item in archive.infolist())
    return {"file": wheel.name, "bytes": wheel.stat().st_size, "unpacked": unpacked}


def read_cflags(python: Path) -> str:
    """The flags that setuptools hands to every C++ compile of this Python."""
    code = "import sysconfig; print(sysconfig.get_config_var('CFLAGS'))"
    return subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def compare(readme: Cost, ours: Cost, *, chain: float | None, jobs: int) -> dict[str, Any]:
    """The promised ratios of one pair of cold builds, each beside its limit. Pure."""
    verdict = {
        "wall, ours / README": _judged(ours.seconds / readme.seconds, 0.6),
        "CPU-seconds, ours / README": _judged(ours.cpu_seconds / readme.cpu_seconds, 0.75),
    }
    if chain is not None:
        floor = max(ours.cpu_seconds / jobs, chain)
        verdict["wall / max(CPU-seconds / cores, longest chain)"] = _judged(
            ours.seconds / floor, 1.25
        )
    return verdict


def compare_sizes(slim: int, readme: int, readme_g0: int | None) -> dict[str, Any]:
    """Bytes of the wheels. Pure."""
    verdict = {"bytes, slim / README": _judged(slim / readme, 0.1)}
    if readme_g0:
        verdict["bytes, slim / README with -g0"] = {"value": round(slim / readme_g0, 4)}
    return verdict


def _judged(value: float, limit: float) -> dict[str, Any]:
    return {"value": round(value, 4), "limit": limit, "met": value <= limit}


def run_all(task: Task, *, with_g0: bool) -> dict[str, Any]:
    """Every part, in the order in which they do not disturb each other."""
    result: dict[str, Any] = {"cflags": read_cflags(task.python)}
    readme, readme_wheel = build_by_readme(task, name="readme")
    ours, built = build_by_farm(task, log="farm.log")
    slim = finish_wheel(task, built)
    timeline = read_timeline(task)
    result["builds"] = {"README": readme.to_json(), "wheelbuild build": ours.to_json()}
    result["timeline"] = timeline
    result["wheels"] = {"README": wheel_facts(readme_wheel), "slim": wheel_facts(slim)}
    g0_bytes = None
    if with_g0:
        _, g0 = build_by_readme(task, name="readme-g0", extra={"CFLAGS": "-g0"})
        result["wheels"]["README with -g0"] = wheel_facts(g0)
        g0_bytes = g0.stat().st_size
    result["rebuilds"] = {
        "nothing changed": rebuild(task, change=False),
        "one line changed": rebuild(task, change=True),
    }
    chain = timeline.get("longest_chain")
    sizes = compare_sizes(slim.stat().st_size, readme_wheel.stat().st_size, g0_bytes)
    result["verdict"] = {**compare(readme, ours, chain=chain, jobs=task.jobs), **sizes}
    return result


def read_account(cache: Path, *, works: str = "work") -> dict[str, Any]:
    """What the build of the one cell of this cache noted itself; `works` may be a pattern."""
    (job,) = cache.glob(f"{works}/*/job")
    account: dict[str, Any] = json.loads((job / "work" / "build.json").read_text())
    return account


def read_timeline(task: Task) -> dict[str, Any]:
    """What the last build noted itself: when each compiler ran, and how long each step took.

    `longest_chain` is that of dependent steps: prepare, capture, compilers and linker, pack.
    """
    account = json.loads((task.work / "job" / "work" / "build.json").read_text())
    kept = {name: account[name] for name in ("timeline", "steps", "width", "seconds")}
    around = sum(seconds for step, seconds in kept["steps"].items() if step != "compile")
    return {**kept, "longest_chain": round(account["longest_chain"] + around, 3)}


def write(result: dict[str, Any], out: Path) -> str:
    """`out`.json with everything, `out`.md for people."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    builds: list[list[object]] = [["", "wall, s", "CPU-seconds", "largest process, MiB"]]
    for name, cost in result["builds"].items():
        builds.append([name, cost["seconds"], cost["cpu_seconds"], cost["peak_mib"]])
    again: list[list[object]] = [["second build", "wall, s", "CPU-seconds", "objects", "links"]]
    for name, row in result["rebuilds"].items():
        again.append([name, row["seconds"], row["cpu_seconds"], row["objects"], row["links"]])
    wheels: list[list[object]] = [["wheel", "bytes", "unpacked"]]
    for name, row in result["wheels"].items():
        wheels.append([name, row["bytes"], row["unpacked"]])
    promises: list[list[object]] = [["", "found", "at most", ""]]
    for name, row in result["verdict"].items():
        met = {True: "met", False: "NOT MET", None: ""}[row.get("met")]
        promises.append([name, row["value"], row.get("limit", ""), met])
    facts = "".join(
        f"- {name}: {result[name]}\n" for name in ("date", "command", "machine", "cflags")
    )
    tables = "\n".join(format_table(rows) for rows in (builds, again, wheels, promises))
    text = f"# Building Apex\n\n{facts}\n{tables}\n{draw_timeline(result['timeline'])}"
    out.with_suffix(".md").write_text(text)
    return text


def draw_timeline(timeline: Mapping[str, Any]) -> str:
    """One line per compiler call: when it ran, drawn over the width of the whole build. Pure."""
    calls = sorted(timeline.get("timeline", ()), key=lambda call: call["start"])
    if not calls:
        return ""
    end = max(call["end"] for call in calls)
    lines = []
    for call in calls:
        first, last = (round(call[edge] / end * TIMELINE_WIDTH) for edge in ("start", "end"))
        bar = " " * first + "#" * max(last - first, 1)
        lines.append(
            f"{bar:<{TIMELINE_WIDTH}} {call['end'] - call['start']:6.1f} s  {call['label']}"
        )
    return "```\n" + "\n".join(lines) + "\n```\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--cell", required=True, help="its label")
    add("--source", type=Path, required=True, help="a checkout of NVIDIA Apex")
    add("--python", type=Path, required=True, help="an interpreter that holds the cell's torch")
    add("--arch", default="9.0", help="one architecture (default: 9.0)")
    add("--jobs", type=int, default=os.cpu_count(), help="compilers at once of ours")
    add("--with-g0", action="store_true", help="the README's command once more, with -g0")
    add("--out", type=Path, required=True, help="result without suffix: .json and .md are written")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="build-apex-") as name:
        task = Task(
            cell=arguments.cell,
            source=arguments.source.absolute(),
            python=arguments.python.absolute(),
            arch=arguments.arch,
            jobs=arguments.jobs,
            folder=Path(name),
        )
        result = {**describe_run(), **run_all(task, with_g0=arguments.with_g0)}
    print(write(result, arguments.out))
    return 0 if all(row.get("met", True) for row in result["verdict"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
