"""The Python-only Apex beside compiled ones, on a GPU, in one call of six minutes at most.

Apex's own tests of its norms and of FusedAdam, FusedSGD and FusedLAMB on both; norms and optimizer
steps timed on both; a block like SeedVR's on every install that is given. Each install is a folder
for PYTHONPATH and runs in processes of its own. What was found is written after each part.

    python benchmarks/standins.py --apex-source APEX --compiled DIR --python-only DIR --wheel DIR \\
        --out benchmarks/results/standins

`--cpu-rehearsal` runs all of it small and without a GPU: then no figure means anything.
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
import traceback
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_apex import clean_environ
from gpu_acceptance import NO_TESTS
from measure import describe_run, format_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BENCHMARKS = Path(__file__).resolve().parent
COMPILED, PYTHON_ONLY, WHEEL, POD = "compiled", "python-only", "wheel", "pod"
SUITES = {
    "run_fused_layer_norm": "",
    "run_optimizers": "AdamTest or TestFusedAdam or TestFusedSGD or TestFusedLAMB",
}
"""Folder of Apex's tests -> the classes that stand-ins serve; empty: all."""
ALONE = "alone"
"""The share of the one test that fills a GPU's memory: nothing else runs beside it."""
MET = 0.95
CRASHED = " (exit"
"""In the name of what stands for tests that were not told apart: pytest itself ended badly."""
LINES = 4
"""Of a failure's message that are kept."""
REHEARSED = {
    "65536": "64",
    "self.assertFalse(out_cpu_.is_cuda)": "pass",
    "self.assertTrue(out_cuda_.is_cuda)": "pass",
}
"""What is changed in Apex's tests for a rehearsal: sizes, and where a tensor is."""
CONFTEST = '''\
"""Of what is collected, a share: `0/4`, or `alone`."""
import os

if os.environ.get("STANDINS_ON_CPU"):
    import cuda_on_cpu

    cuda_on_cpu.pretend_for_tests()


def pytest_collection_modifyitems(config, items):
    share = os.environ["STANDINS_SHARE"]
    alone = [item for item in items if "testLargeTensor" in item.name]
    if share == "alone":
        kept = alone
    else:
        number, of = map(int, share.split("/"))
        kept = [item for item in items if item not in alone][number::of]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
'''


@dataclass
class Run:
    """The call: its installs by name, what it may take, what it has found so far."""

    installs: Mapping[str, Path]
    source: Path
    out: Path
    folder: Path
    deadline: float
    shares: int
    on_cpu: bool
    found: dict[str, Any] = field(default_factory=dict)

    def left(self) -> float:
        return max(self.deadline - time.monotonic(), 1)

    def note(self, name: str, value: object) -> None:
        self.found[name] = value
        (self.out / "standins.json").write_text(json.dumps(self.found, indent=1) + "\n")

    def part(self, name: str, work: Callable[[Run], object]) -> None:
        """One part: timed, and a failure of it is a finding, not the end."""
        started = time.monotonic()
        try:
            self.note(name, work(self))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other parts go on
            traceback.print_exc()
            self.note(f"FAILED {name}", f"{type(error).__name__}: {error}")
        seconds = round(time.monotonic() - started, 1)
        print(f"[{self.left():4.0f} s left] {name}: {seconds} s", flush=True)
        self.note("seconds", {**self.found.get("seconds", {}), name: seconds})

    def environ(self, install: str, **more: str) -> dict[str, str]:
        """That install first, then what the caller's PYTHONPATH adds, and few threads each."""
        path = [str(self.installs[install]), str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
        on_cpu = {"STANDINS_ON_CPU": "1"} if self.on_cpu else {}
        path_text = os.pathsep.join(filter(None, path))
        threads = {"OMP_NUM_THREADS": "2", "TORCHINDUCTOR_COMPILE_THREADS": "2"}
        return {**clean_environ(), **threads, **on_cpu, "PYTHONPATH": path_text, **more}


def run_tests(run: Run) -> dict[str, Any]:
    """On each install in many processes, then the test that needs all memory.

    One install after the other: both at once ask for more memory than a GPU of 80 GB has.
    """
    outcomes: dict[str, dict[str, str]] = {}
    for name in (COMPILED, PYTHON_ONLY):
        folder, found = copy_tests(run, name), {}
        tasks = [("run_fused_layer_norm", f"{one}/{run.shares}") for one in range(run.shares)]
        tasks.append(("run_optimizers", "0/1"))
        with ThreadPoolExecutor(len(tasks)) as pool:
            for part in pool.map(partial(run_task, run, folder, name), tasks):
                found |= part
        if not run.on_cpu:
            found |= run_share(run, folder, name, "run_optimizers", ALONE)
        outcomes[name] = found
        (run.out / f"L0-{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return judge(outcomes[COMPILED], outcomes[PYTHON_ONLY])


def run_task(run: Run, folder: Path, name: str, task: tuple[str, str]) -> dict[str, str]:
    return run_share(run, folder, name, *task)


def copy_tests(run: Run, name: str) -> Path:
    """The tests alone, since the source's own `apex` would be found first."""
    folder = run.folder / f"L0-{name}"
    shutil.copytree(run.source / "tests" / "L0", folder)
    for suite in SUITES:
        (folder / suite / "conftest.py").write_text(CONFTEST)
        for script in (folder / suite).glob("test_*.py") if run.on_cpu else ():
            text = script.read_text()
            for old, new in REHEARSED.items():
                text = text.replace(old, new)
            script.write_text(text)
    return folder


def run_share(run: Run, folder: Path, name: str, suite: str, share: str) -> dict[str, str]:
    """Some tests of a suite, from inside its folder: its files import each other."""
    label = share.replace("/", "-of-")
    report = folder / suite / f"{label}.xml"
    chosen = ["-k", SUITES[suite]] if SUITES[suite] else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    command += [f"--junitxml={report}", "."]
    with (folder / suite / f"{label}.log").open("wb") as log:
        code = subprocess.run(
            command,
            cwd=folder / suite,
            env=run.environ(name, STANDINS_SHARE=share),
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=run.left(),
            check=False,
        ).returncode
    if code not in (0, 1, NO_TESTS) or not report.exists():
        text = (folder / suite / f"{label}.log").read_text(errors="replace")[-1500:]
        return {f"{suite}::{share}{CRASHED} {code})": f"error: {text}"}
    return read_cases(report.read_text(encoding="utf-8"), suite)


def read_cases(report: str, suite: str) -> dict[str, str]:
    """A JUnit report: `suite::file::test` -> passed, or how it ended and its message's lines."""
    cases = {}
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        bad = [child for child in case if child.tag in ("failure", "error", "skipped")]
        lines = [line for line in (bad[0].get("message") or "").splitlines() if line] if bad else []
        ended = f"{bad[0].tag}: {' | '.join(lines[:LINES])}" if bad else "passed"
        cases[f"{suite}::{case.get('classname')}::{case.get('name')}"] = ended
    return cases


def judge(compiled: Mapping[str, str], standins: Mapping[str, str]) -> dict[str, Any]:
    """Of the tests that pass with the compiled modules: how many do with stand-ins. Pure."""
    passing = [name for name, ended in compiled.items() if ended == "passed"]
    lost = {
        name: standins.get(name, "did not run")
        for name in passing
        if standins.get(name) != "passed"
    }
    crashed = sorted({name for name in (*compiled, *standins) if CRASHED in name})
    share = (len(passing) - len(lost)) / len(passing) if passing else 0.0
    return {
        "pass with compiled modules": len(passing),
        "of these with stand-ins": len(passing) - len(lost),
        "share": round(share, 4),
        "wanted": MET,
        "met": share >= MET and not crashed,
        "crashed": crashed,
        "lost": lost,
        "pass with neither": {
            name: ended
            for name, ended in standins.items()
            if ended != "passed" and compiled.get(name) != "passed"
        },
    }


def run_child(run: Run, install: str, *words: str | Path) -> dict[str, Any]:
    """`standins_child.py` under that install; what it prints."""
    command = [sys.executable, BENCHMARKS / "standins_child.py", *words]
    command += ["--small"] if run.on_cpu else []
    done = subprocess.run(
        [str(word) for word in command],
        cwd=run.folder,
        env=run.environ(install, OMP_NUM_THREADS="8"),
        capture_output=True,
        text=True,
        timeout=run.left(),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{install}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_speed(run: Run) -> dict[str, Any]:
    """Both installs, one after the other, with nothing else on the GPU."""
    found = {name: run_child(run, name, "speed") for name in (COMPILED, PYTHON_ONLY)}
    rows = {
        kind: relate(found[COMPILED][kind], found[PYTHON_ONLY][kind])
        for kind in ("norms", "optimizers")
    }
    (run.out / "standins.md").write_text("\n".join(map(speed_table, rows.values())))
    captured = {name: one["captured by a graph"] for name, one in found.items()}
    return {
        "torch": found[COMPILED]["torch"],
        "capturable step captured by a graph": captured,
        "milliseconds": rows,
    }


def relate(compiled: Mapping[str, float], standin: Mapping[str, float]) -> list[dict[str, Any]]:
    """Per case: both times and how many times the compiled one's the stand-in takes. Pure."""
    return [
        {
            "case": name,
            COMPILED: round(took, 4),
            PYTHON_ONLY: round(standin[name], 4),
            "times": round(standin[name] / took, 2),
        }
        for name, took in compiled.items()
    ]


def speed_table(rows: list[dict[str, Any]]) -> str:
    head = ("case", "compiled, ms", "stand-in, ms", "stand-in / compiled")
    body = [(row["case"], row[COMPILED], row[PYTHON_ONLY], row["times"]) for row in rows]
    return format_table([head, *body])


def run_blocks(run: Run) -> dict[str, Any]:
    """The block on every install, and the outputs beside the first compiled one's."""
    kept = {name: run.folder / f"{name}.pt" for name in run.installs}
    blocks = {name: run_child(run, name, "block", path) for name, path in kept.items()}
    return {"installs": blocks, **run_child(run, COMPILED, "compare", *kept.values())}


def block_faults(blocks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What would make a comparison of blocks worthless. Pure."""
    faults = []
    for name, block in blocks.items():
        if not all(block["entered"].values()):
            faults.append(f"{name}: the module under test was not entered: {block['entered']}")
        if block["stand-in"] != (name == PYTHON_ONLY):
            faults.append(f"{name}: ran on {block['module']}")
        if not (block["finite"] and block["input untouched"]):
            faults.append(f"{name}: an output that is not finite, or an input written to")
    if len({block["output"] for block in blocks.values()}) > 1:
        faults.append("the outputs differ in shape or dtype")
    return faults


def read_versions(installs: Mapping[str, Path]) -> dict[str, str]:
    """What the installs call themselves; python's own version."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name, path in installs.items():
        infos = sorted(path.glob("apex-*.dist-info"))
        found[name] = infos[0].name.split("-")[1].removesuffix(".dist") if infos else "unknown"
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--apex-source", type=Path, required=True, help="a plain tree of the ref's files")
    add("--compiled", type=Path, required=True, help="an install that holds compiled modules")
    add("--python-only", type=Path, required=True, help="an install with stand-ins")
    add("--wheel", type=Path, help="another compiled install, for the block")
    add("--pod", type=Path, help="one more, that a pod compiled")
    add("--out", type=Path, required=True, help="folder for what is found")
    add("--budget", type=float, default=360, help="seconds for all of it")
    add("--shares", type=int, default=5, help="processes per install for the tests of norms")
    add("--cpu-rehearsal", action="store_true", help="small, without a GPU, nothing is measured")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    given = {
        COMPILED: arguments.compiled,
        WHEEL: arguments.wheel,
        POD: arguments.pod,
        PYTHON_ONLY: arguments.python_only,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="standins-") as folder:
        run = Run(
            installs={name: path.absolute() for name, path in given.items() if path},
            source=arguments.apex_source.absolute(),
            out=arguments.out.absolute(),
            folder=Path(folder),
            deadline=time.monotonic() + arguments.budget,
            shares=arguments.shares,
            on_cpu=arguments.cpu_rehearsal,
        )
        run.note("run", describe_run())
        run.note("versions", read_versions(run.installs))
        run.part("blocks", run_blocks)
        run.part("speed", measure_speed)
        run.part("tests", run_tests)
    faults = [name for name in run.found if name.startswith("FAILED")]
    if "blocks" in run.found and not run.on_cpu:
        faults += block_faults(run.found["blocks"]["installs"])
    run.note("faults", faults)
    print(json.dumps({name: run.found.get(name) for name in ("tests", "faults")}, indent=1))
    return 1 if faults or not run.found.get("tests", {}).get("met") else 0


if __name__ == "__main__":
    raise SystemExit(main())
