"""A pod that finds no wheel: what it compiles, beside the original way, on one GPU in one run.

The original way: Apex's README command with its parallel settings, all core modules,
TORCH_CUDA_ARCH_LIST unset. Ours: apex-install with an empty index and `--require
apex.normalization.FusedRMSNorm`. Both from nothing, one after the other, each alone on the machine.
Then the other two outcomes into folders beside it, for `standins.py`: a wheel that the farm builds
and publishes, and the Python-only one that the zipapp carries.

    python benchmarks/pod_compile.py --apex APEX --out OUT --folder FOLDER

In FOLDER: `readme`, `pod`, `wheel`, `python-only`, each a directory for PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_apex import (
    ROOT,
    Task,
    build_by_readme,
    clean_environ,
    farm_command,
    farm_environ,
    wheel_facts,
)
from measure import Cost, describe_run, run_measured

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUIRED = "apex.normalization.FusedRMSNorm"
PINS = ROOT / "installer/src/apex_installer/data/toolkits.json"
LIMIT = 0.1
"""Of the original way's CPU-seconds."""


def compare(readme: Cost, ours: Cost) -> dict[str, Any]:
    """The promised ratio, and the wall clock's. Pure."""
    share = ours.cpu_seconds / readme.cpu_seconds
    return {
        "CPU-seconds, ours / original": {
            "value": round(share, 4),
            "limit": LIMIT,
            "met": share <= LIMIT,
        },
        "wall, ours / original": {"value": round(ours.seconds / readme.seconds, 4)},
    }


def pod_command(task: Task, target: Path, *words: str) -> list[str | Path]:
    """As a pod starts it."""
    index = task.folder / "empty-index"
    index.mkdir(exist_ok=True)
    common: list[str | Path] = [task.python, task.folder / "apex-install.pyz", "--target", target]
    common += ["--cache-dir", target.with_name(f"{target.name}-cache"), "--require", REQUIRED]
    common += ["--gpu", task.arch] if "gpu" not in describe_run()["machine"] else []
    return [*common, *(words or ("--index-url", index.as_uri()))]


def pod_environ(task: Task) -> dict[str, str]:
    """The caller's, without what steers a build; a temporary directory of its own."""
    scratch = task.folder / "tmp"
    scratch.mkdir(exist_ok=True)
    return {**clean_environ(), "TMPDIR": str(scratch)}


def read_report(log: Path) -> dict[str, Any]:
    """The JSON that `--json` printed between the lines for people."""
    text = log.read_text()
    found: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return found


def install(task: Task, name: str, *words: str, timeout: float) -> tuple[Cost, dict[str, Any]]:
    """One outcome into `FOLDER/<name>`: its cost and its report."""
    target, log = task.folder / name, task.folder / f"{name}.log"
    target.mkdir()
    command = pod_command(task, target, "--json", *words)
    cost = run_measured(command, environ=pod_environ(task), log=log, timeout=timeout)
    return cost, read_report(log)


def check_run(task: Task, name: str) -> dict[str, Any]:
    """`check --run`: the required class constructed and run, by the installed modules."""
    log = task.folder / f"{name}-check.log"
    command = pod_command(task, task.folder / name, "check", "--run", "--json")
    run_measured(command, environ=pod_environ(task), log=log, timeout=120)
    report = read_report(log)
    return {"line": report["line"], "evidence": report["evidence"]}


def pip_target(task: Task, wheel: Path, name: str) -> None:
    """The README's wheel, for the tests that follow."""
    pip: list[str | Path] = [task.python, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    command = [str(word) for word in [*pip, "--target", task.folder / name, wheel]]
    subprocess.run(command, env=clean_environ(), check=True)


def pack(task: Task, ref: str) -> None:
    """The zipapp with the Python-only wheel in it, by the farm of this checkout."""
    source: list[str | Path] = ["--source", task.source]
    steps: Sequence[Sequence[str | Path]] = (
        ["python-only", ref, *source],
        ["zipapp", "--out", task.folder / "apex-install.pyz"],
    )
    for words in steps:
        command = farm_command(task, *words)
        log = task.folder / f"{words[0]}.log"
        run_measured(command, environ=farm_environ(), cwd=ROOT, log=log)


def publish_norm(task: Task) -> None:
    """A wheel of the norm group by all of the farm's steps."""
    words: list[str | Path] = ["run", task.cell, "--python", task.python, "--arch", task.arch]
    words += ["--only", "norm", "--source", task.source, "--jobs", str(task.jobs)]
    words += ["--index", task.folder / "index"]
    log = task.folder / "farm-run.log"
    run_measured(farm_command(task, *words), environ=farm_environ(), cwd=ROOT, log=log, timeout=300)


def measure(task: Task, arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole call."""
    pack(task, arguments.ref)
    pins = json.loads(PINS.read_text())["toolkits"][arguments.cuda]
    found: dict[str, Any] = {"run": describe_run()}
    if arguments.readme_wheel:
        readme, wheel = None, arguments.readme_wheel
    else:
        readme, wheel = build_by_readme(
            task, name="original", extra={"TORCH_CUDA_ARCH_LIST": None}, timeout=400
        )
        found["original way"] = readme.to_json()
    pip_target(task, wheel, "readme")
    found["original wheel"] = wheel_facts(wheel)
    source = ["--source", str(task.source)]
    ours, report = install(
        task, "pod", "--index-url", (task.folder / "empty-index").as_uri(), *source, timeout=300
    )
    told = {name: report[name] for name in ("line", "outcome", "seconds", "bytes")}
    found["pod"] = {**ours.to_json(), "report": told}
    found["toolkit"] = {
        "fetched here": report["bytes"].get("toolkit", 0),
        "bytes that a pod without one fetches": sum(part["size"] for part in pins["parts"]),
    }
    if readme:
        found["ratios"] = compare(readme, ours)
    publish_norm(task)
    index = (task.folder / "index").as_uri()
    cost, report = install(task, "wheel", "--index-url", index, timeout=60)
    found["wheel"] = {**cost.to_json(), "line": report["line"]}
    empty = (task.folder / "empty-index").as_uri()
    words = ["--index-url", empty, "--compile-timeout", "0"]
    cost, report = install(task, "python-only", *words, timeout=60)
    found["python-only"] = {**cost.to_json(), "line": report["line"]}
    if not arguments.rehearse:
        found["checks"] = {name: check_run(task, name) for name in ("pod", "wheel", "python-only")}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--apex", type=Path, required=True, help="a checkout of NVIDIA Apex, or its files")
    add("--ref", default="26.07", help="the recipe's name of it")
    add("--out", type=Path, required=True, help="folder for what is found")
    add("--folder", type=Path, required=True, help="scratch folder; what is installed stays in it")
    add("--cell", default="cp312-torch2.11-cu130-linux_x86_64")
    add("--cuda", default="13.0")
    add("--python", type=Path, default=Path(sys.executable))
    add("--arch", default="9.0")
    add("--jobs", type=int, default=os.cpu_count())
    add("--readme-wheel", type=Path, help="take this one instead of building it")
    add("--rehearse", action="store_true", help="without a GPU")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    (arguments.folder / "empty-index").mkdir()
    task = Task(
        cell=arguments.cell,
        source=arguments.apex.absolute(),
        python=arguments.python.absolute(),
        arch=arguments.arch,
        jobs=arguments.jobs,
        folder=arguments.folder.absolute(),
    )
    try:
        found = measure(task, arguments)
    except subprocess.CalledProcessError as error:
        print(error, error.output, sep="\n")
        return 1
    (arguments.out / "pod_compile.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found.get(name) for name in ("original way", "ratios", "toolkit")}))
    print(json.dumps(found.get("checks"), indent=1)[:3000])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
