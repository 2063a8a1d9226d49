"""One call on a GPU machine: build both ways, test, publish, install, and run Apex's own tests.

Real Apex for one cell and the GPU's own architecture: the README's command against `wheelbuild`,
cold and one after the other; the farm's every step with `--on-gpu`; apex-install into a clean
target; Apex's `tests/L0` with either wheel, test by test; our module tests with either wheel; the
README's command once more with -g0, for its size alone; `already` with the driver read.

Each part writes what it found at once, so that a call that is cut short still tells something.
`--rehearse` takes a README wheel that is there and leaves out what needs a GPU.

    python benchmarks/gpu_acceptance.py --apex APEX --out OUT --budget 560
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import threading
import time
import traceback
import xml.etree.ElementTree as ET
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_apex import (
    ROOT,
    Task,
    build_by_farm,
    build_by_readme,
    cell_words,
    clean_environ,
    compare,
    compare_sizes,
    farm_command,
    farm_environ,
    read_cflags,
    read_timeline,
    wheel_facts,
)
from measure import describe_run, run_measured, summarize, watch_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITES = ("run_fused_layer_norm", "run_mlp", "run_optimizers")
MODULE_TESTS = ROOT / "wheelbuild" / "recipes" / "apex" / "tests"
ALREADY_RUNS = 9
NO_TESTS = 5
"""pytest's exit code where nothing was collected."""


@dataclass
class Acceptance:
    """The call: what it may take, where it writes, what it has found so far."""

    task: Task
    out: Path
    deadline: float
    rehearse: bool
    with_g0: bool
    readme_wheel: Path | None
    found: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> Path:
        return self.task.folder

    def left(self) -> float:
        """Seconds until the call must have ended."""
        return self.deadline - time.monotonic()

    def note(self, name: str, value: object) -> None:
        """Keep a finding, and write all of them."""
        with self.lock:
            self.found[name] = value
            (self.out / "acceptance.json").write_text(json.dumps(self.found, indent=1) + "\n")

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """One part: timed, and a failure of it is a finding, not the end."""
        started = time.monotonic()
        print(f"[{self.left():4.0f} s left] {name}", flush=True)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the other parts go on
            output = getattr(error, "output", "") or ""
            text = f"{type(error).__name__}: {error}\n{str(output)[-3000:]}"
            traceback.print_exc()
            print(text, flush=True)
            self.note(f"FAILED {name}", text)
        seconds = round(time.monotonic() - started, 1)
        print(f"[{self.left():4.0f} s left] {name}: {seconds} s", flush=True)
        with self.lock:
            self.found.setdefault("seconds", {})[name] = seconds


def build_both(run: Acceptance) -> Path | None:
    """README's command, then ours, each alone on the machine; returns the README's wheel."""
    readme = None
    wheel = run.readme_wheel
    with run.part("README build"):
        if wheel is None:
            with watch_cores() as cores:
                readme, wheel = build_by_readme(run.task, name="readme", timeout=run.left() - 200)
            run.note("README build", {**readme.to_json(), "cores": cores})
        run.note("README wheel", {**wheel_facts(wheel), "cflags": read_cflags(run.task.python)})
    with run.part("our build"):
        with watch_cores() as cores:
            ours, _ = build_by_farm(run.task, log="farm-build.log", timeout=run.left() - 100)
        run.note("our build", {**ours.to_json(), "cores": cores})
        timeline = read_timeline(run.task)
        run.note("timeline", timeline)
        if readme:
            chain = timeline.get("longest_chain")
            run.note("builds", compare(readme, ours, chain=chain, jobs=run.task.jobs))
    return wheel


def run_farm(run: Acceptance) -> Path | None:
    """`wheelbuild run` (its build finds everything made), then apex-install into a clean target."""
    clean = None
    with run.part("wheelbuild run"):
        words = [*cell_words(run.task), *([] if run.rehearse else ["--on-gpu"])]
        command = farm_command(run.task, "--json", "run", *words)
        log = run.folder / "farm-run.log"
        run_measured(command, environ=farm_environ(), cwd=ROOT, log=log, timeout=run.left())
        run.note("wheelbuild run", log.read_text()[-3000:])
        slim = next((run.task.work / "stamped").glob("*.whl"))
        run.note("slim wheel", wheel_facts(slim))
        run.note("evidence", read_entry(run.folder / "index"))
    with run.part("apex-install into a clean target"):
        zipapp = farm_command(run.task, "zipapp", "--out", run.folder / "apex-install.pyz")
        run_measured(zipapp, environ=farm_environ(), cwd=ROOT, log=run.folder / "zipapp.log")
        target = run.folder / "clean"
        target.mkdir()
        log = run.folder / "install.json"
        command = install_command(run, target, "--json")
        run_measured(command, environ=clean_environ(), log=log, timeout=100)
        clean = target
        text = log.read_text()
        run.note("install report", json.loads(text[text.index("{") : text.rindex("}") + 1]))
    return clean


def install_command(run: Acceptance, target: Path, *flags: str) -> list[str | Path]:
    """As a pod starts it, by the interpreter that holds torch."""
    gpu = ["--gpu", run.task.arch] if run.rehearse else []
    return [
        run.task.python,
        run.folder / "apex-install.pyz",
        "--index-url",
        (run.folder / "index").as_uri(),
        "--target",
        target,
        "--cache-dir",
        run.folder / "pod-cache",
        *gpu,
        *flags,
    ]


def read_entry(index: Path) -> dict[str, Any]:
    """The one entry that was published: its evidence above all."""
    (path,) = (index / "entries").glob("*.json")
    return dict(json.loads(path.read_text()))


def run_suites(run: Acceptance, name: str, target: Path) -> dict[str, str]:
    """Apex's own tests against what lies in `target`: test -> outcome, with the first error's line.

    From a copy of the tests alone, since the source's own `apex` would be found first.
    """
    folder = run.folder / f"L0-{name}"
    shutil.copytree(run.task.source / "tests" / "L0", folder)
    extra = os.environ.get("PYTHONPATH", "")
    environ = {**clean_environ(), "PYTHONPATH": f"{target}{os.pathsep}{extra}"}
    with ThreadPoolExecutor() as pool:
        each = pool.map(lambda suite: run_suite(run, folder / suite, environ), SUITES)
        outcomes = {test: outcome for found in each for test, outcome in found.items()}
    (run.out / f"L0-{name}.json").write_text(json.dumps(outcomes, indent=1) + "\n")
    return outcomes


def run_suite(run: Acceptance, folder: Path, environ: dict[str, str]) -> dict[str, str]:
    """One folder, from inside it: its files import each other."""
    report = folder / "report.xml"
    # The long suite in several processes, so that all of it fits into one call.
    wide = ["-n", "4"] if folder.name == SUITES[0] else []
    command = [run.task.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *wide]
    command += [f"--junitxml={report}", "."]
    with (folder / "log").open("wb") as log:
        code = subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=max(run.left() - 20, 30),
            check=False,
        ).returncode
    if code not in (0, 1, NO_TESTS) or not report.exists():
        text = (folder / "log").read_text(errors="replace")[-1500:]
        return {f"{folder.name}::(exit {code})": f"error: {text}"}
    return read_outcomes(report, folder.name)


def read_outcomes(report: Path, suite: str) -> dict[str, str]:
    """A JUnit report: `suite::file::test` -> passed, skipped, or the failure's first line."""
    outcomes = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest wrote it
        name = f"{suite}::{case.get('classname')}::{case.get('name')}"
        bad = [child for child in case if child.tag in ("failure", "error", "skipped")]
        words = (bad[0].get("message") or "").strip().splitlines() if bad else []
        outcomes[name] = f"{bad[0].tag}: {words[0] if words else ''}" if bad else "passed"
    return outcomes


def compare_outcomes(readme: dict[str, str], ours: dict[str, str]) -> dict[str, Any]:
    """What passes with the README's wheel and not with ours, and what passes with neither. Pure."""
    lost = {
        name: ours.get(name, "did not run")
        for name, outcome in readme.items()
        if outcome == "passed" and ours.get(name) != "passed"
    }
    others = {
        name: {"README": readme.get(name, "did not run"), "ours": outcome}
        for name, outcome in ours.items()
        if outcome != "passed" and name not in lost
    }
    passed = {
        suite: {
            "README": _passed(readme, suite),
            "ours": _passed(ours, suite),
        }
        for suite in SUITES
    }
    return {"passed": passed, "lost": lost, "others": others}


def _passed(outcomes: dict[str, str], suite: str) -> str:
    mine = [outcome for name, outcome in outcomes.items() if name.startswith(f"{suite}::")]
    return f"{mine.count('passed')} of {len(mine)}"


def run_module_tests(run: Acceptance, target: Path) -> dict[str, Any]:
    """Our module tests against a target: module -> what the test printed."""

    def one(script: Path) -> tuple[str, Any]:
        environ = {**clean_environ(), "PYTHONPATH": str(target)}
        ran = subprocess.run(
            [run.task.python, script],
            cwd=run.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=max(run.left(), 30),
            check=False,
        )
        try:
            return script.stem, json.loads(ran.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            return script.stem, {"failed": 1, "first_error": ran.stderr[-1000:]}

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(one, sorted(MODULE_TESTS.glob("*.py"))))


def try_readme_wheel(run: Acceptance, wheel: Path) -> dict[str, str]:
    """Apex's tests and ours with the README's wheel."""
    target = run.folder / "readme-target"
    outcomes: dict[str, str] = {}
    with run.part("tests/L0 with the README wheel"):
        install: list[str | Path] = [
            run.task.python,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--no-deps",
        ]
        subprocess.run([*install, "--target", target, wheel], env=clean_environ(), check=True)
        outcomes = run_suites(run, "readme", target)
    with run.part("module tests with the README wheel"):
        run.note("module tests, README wheel", run_module_tests(run, target))
    return outcomes


def measure_already(run: Acceptance, clean: Path) -> None:
    """Starts on what is installed, the driver read where there is one."""
    costs = []
    for number in range(ALREADY_RUNS + 1):
        log = run.folder / "already.log"
        cost = run_measured(install_command(run, clean), environ=clean_environ(), log=log)
        if "already" not in log.read_text():
            raise RuntimeError(log.read_text())
        costs += [cost] if number else []
    run.note("already", {**summarize(costs), "of": ALREADY_RUNS})
    print("already, ms:", round(1000 * statistics.median(cost.seconds for cost in costs), 1))


def measure_cold_start(run: Acceptance, wheel: Path) -> None:
    """The loopback comparison, where the time that is left allows it."""
    slim = next((run.task.work / "stamped").glob("*.whl"))
    command: list[str | Path] = [
        run.task.python,
        "benchmarks/cold_start.py",
        "--out",
        run.out / "cold_start",
    ]
    command += ["--torch", torch_folder(run.task.python), "--index", run.folder / "index"]
    command += ["--zipapp", run.folder / "apex-install.pyz", "--slim", slim, "--readme", wheel]
    command += ["--zipapp-flag=--gpu=" + run.task.arch] if run.rehearse else []
    command += ["--uv", find_uv()]
    log = run.folder / "cold_start.log"
    run_measured(command, environ=dict(os.environ), cwd=ROOT, log=log, timeout=run.left() - 10)


def torch_folder(python: Path) -> Path:
    """The site-packages that holds torch; torch is not imported."""
    code = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    said = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    return Path(said.strip()).parent


def find_uv() -> str:
    """uv's executable, also where its wheel was unpacked beside its package."""
    beside = [Path(entry) / "bin" / "uv" for entry in os.environ.get("PYTHONPATH", "").split(":")]
    found = [str(path) for path in beside if path.is_file()] or [shutil.which("uv") or ""]
    return found[0]


def save_wheel(run: Acceptance) -> None:
    """Our wheel travels back; its name in letters that a file transfer takes."""
    for wheel in run.task.cache.glob("work/*/stamped/*.whl"):
        shutil.copy(wheel, run.out / wheel.name.replace("+", "_"))


def save_logs(run: Acceptance) -> None:
    """Every log of the call, in one archive."""
    logs = [*run.folder.glob("*.log"), *run.folder.glob("L0-*/*/log"), *run.folder.glob("*/log")]
    logs += list((run.task.cache / "work").glob("*/job/work/*.log"))
    archive = run.out / "logs.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in logs:
            tar.add(path, arcname=str(path.relative_to(run.folder)))


def accept(run: Acceptance) -> None:
    """The whole call."""
    run.note("run", describe_run())
    readme = build_both(run)
    with ThreadPoolExecutor() as pool:
        farm = pool.submit(run_farm, run)
        theirs: Future[dict[str, str]] | None = None
        if readme:
            theirs = pool.submit(try_readme_wheel, run, readme)
        g0 = pool.submit(build_without_debug, run)
        clean = farm.result()
        expected = theirs.result() if theirs else {}
        if clean:
            with run.part("tests/L0 with our wheel"):
                run.note("L0", compare_outcomes(expected, run_suites(run, "ours", clean)))
        g0.result()
    with run.part("sizes"):
        slim, plain = (run.found[name]["bytes"] for name in ("slim wheel", "README wheel"))
        lean = run.found.get("README wheel with -g0", {}).get("bytes")
        run.note("sizes", compare_sizes(slim, plain, lean))
    if clean:
        with run.part("already"):
            measure_already(run, clean)
    with run.part("rebuilds"):
        run.note("nothing changed", rebuild_in_place(run))
    if readme and clean and run.left() > 60:  # noqa: PLR2004 - about what it takes
        with run.part("cold start"):
            measure_cold_start(run, readme)


def build_without_debug(run: Acceptance) -> None:
    """The README's command with -g0, beside the tests and out of their way: its size alone."""
    if run.rehearse or not run.with_g0:
        return
    with run.part("README build with -g0"):
        cost, wheel = build_by_readme(
            run.task, name="readme-g0", extra={"CFLAGS": "-g0"}, nice=19, timeout=run.left() - 60
        )
        run.note("README wheel with -g0", {**wheel_facts(wheel), **cost.to_json()})


def rebuild_in_place(run: Acceptance) -> dict[str, Any]:
    """`wheelbuild build` once more: what no change costs."""
    cost, _ = build_by_farm(run.task, log="farm-again.log", timeout=run.left())
    return cost.to_json()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--apex", type=Path, required=True, help="a checkout of NVIDIA Apex")
    add("--out", type=Path, required=True, help="folder for what is found")
    add("--folder", type=Path, default=Path("/tmp/acceptance"), help="scratch folder")  # noqa: S108
    add("--cell", default="cp312-torch2.11-cu130-linux_x86_64")
    add("--python", type=Path, default=Path(sys.executable))
    add("--arch", default="9.0")
    add("--jobs", type=int, default=os.cpu_count())
    add("--budget", type=float, default=560, help="seconds for all of it")
    add("--only", action="append", default=[], help="only these modules (rehearsal)")
    add("--rehearse", action="store_true", help="without a GPU")
    add("--without-g0", action="store_true", help="leave out the README build with -g0")
    add("--readme-wheel", type=Path, help="take this one instead of building it")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.folder.mkdir(parents=True)
    task = Task(
        cell=arguments.cell,
        source=arguments.apex.absolute(),
        python=arguments.python.absolute(),
        arch=arguments.arch,
        jobs=arguments.jobs,
        folder=arguments.folder.absolute(),
        only=tuple(arguments.only),
    )
    run = Acceptance(
        task=task,
        out=arguments.out.absolute(),
        deadline=time.monotonic() + arguments.budget,
        rehearse=arguments.rehearse,
        with_g0=not arguments.without_g0,
        readme_wheel=arguments.readme_wheel and arguments.readme_wheel.absolute(),
    )
    try:
        accept(run)
    finally:
        run.note("seconds", run.found.get("seconds", {}))
        save_wheel(run)
        save_logs(run)
    failed = [name for name in run.found if name.startswith("FAILED")]
    print(json.dumps({name: run.found.get(name) for name in SHOWN}, indent=1))
    print("failed parts:", failed or "none")
    return 1 if failed else 0


SHOWN = ("seconds", "README build", "our build", "builds", "sizes", "L0", "already")


if __name__ == "__main__":
    raise SystemExit(main())
