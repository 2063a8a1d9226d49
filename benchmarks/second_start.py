"""The second start of a pod, and a new pod on a volume that another one filled, without a network.

One pod compiles the package of `--source` by its own path; its wheel is then also what an index on
loopback serves. Timed are processes of the packed installer, each round all of them, beside a bare
`python -c pass`:

- `already` after `compiled` and after `wheel`, in the folder that the first start installed into;
- a new pod (an empty folder) that takes the wheel from the cache: in a network namespace of its own
  (`unshare -n`, needs root), where the index cannot be reached, and with `--offline`;
- a new pod that takes what another one compiled.

    python benchmarks/second_start.py --python PYTHON --cuda CUDA_HOME --zipapp apex-install.pyz \\
        --source CHECKOUT --out benchmarks/results/second_start
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cold_start import served
from measure import Cost, describe_run, format_table, run_measured, summarize

from apex_installer.model.cell import Cell
from apex_installer.model.entry import Document, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

BARE = "python -c pass"
LIMITS_MS = {
    "already, after wheel": 100,
    "already, after compiled": 100,
    "new pod, no network at all: wheel from the cache": 600,
}


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    index: str
    target: str
    cache: str
    says: str
    """What its last line begins with."""
    words: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    """What the command stands behind."""
    is_new: bool = False
    """Whether the target is emptied before each run."""


@dataclass
class Bench:
    """Folders and settings of all runs."""

    arguments: argparse.Namespace
    folder: Path
    costs: dict[str, list[Cost]] = field(default_factory=dict)

    def run(self, case: Case) -> Cost:
        target = self.folder / case.target
        if case.is_new:
            shutil.rmtree(target, ignore_errors=True)
        for folder in (target, self.folder / "tmp"):
            folder.mkdir(exist_ok=True)
        log = self.folder / "log"
        command: Sequence[str | Path] = [
            *(*case.before, self.arguments.python, self.arguments.zipapp, "--gpu", "9.0"),
            *("--index-url", case.index, "--target", target),
            *("--cache-dir", self.folder / case.cache, *case.words),
        ]
        cost = run_measured(command, environ=self.environ(), log=log)
        last = log.read_text().splitlines()[-1]
        if not last.startswith(f"apex: {case.says}"):
            raise SystemExit(f"{case.name}: {log.read_text()}")
        return cost

    def bare(self) -> Cost:
        command = [self.arguments.python, "-c", "pass"]
        return run_measured(command, environ=self.environ(), log=self.folder / "log")

    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "CUDA_HOME": str(self.arguments.cuda),
            "VIRTUAL_ENV": str(self.arguments.python.parent.parent),
        }

    def publish(self) -> tuple[Path, Entry]:
        """An index of the wheel that was just compiled; its folder and entry."""
        (path,) = (self.folder / "compiled-cache/compiled").glob("*.json")
        entry = Entry.from_json(json.loads(path.read_text()), where=str(path))
        (wheel,) = (self.folder / "compiled-cache/wheels" / entry.sha256).iterdir()
        root = self.folder / "index"
        file = root / "files" / entry.sha256 / entry.file
        file.parent.mkdir(parents=True)
        shutil.copyfile(wheel, file)
        data = {**entry.to_json(), "url": f"../../files/{entry.sha256}/{entry.file}"}
        cell = Cell.parse(entry.cell)
        listed = Document(cell.index_path, cell.python, (Entry.from_json(data, where="here"),))
        document = root / cell.index_path / Document.name_for(cell.python)
        document.parent.mkdir(parents=True)
        document.write_text(json.dumps(listed.to_json()))
        return root, entry


def race(bench: Bench) -> tuple[dict[str, Any], Entry]:
    """All cases in each round; what fills the caches is not timed with them."""
    nowhere = (bench.folder / "nowhere").as_uri()
    compiled = {"index": nowhere, "cache": "compiled-cache"}
    source = ("--source", str(bench.arguments.source), "--compile-timeout", "3000")
    first = bench.run(Case("compile", target="compiled", says="compiled", words=source, **compiled))
    root, entry = bench.publish()
    with served(root) as url:
        wheel = {"index": f"{url}/", "cache": "wheel-cache"}
        bench.run(Case("wheel", target="wheel", says="wheel", **wheel))
        cases = [
            Case("already, after wheel", target="wheel", says="already", **wheel),
            Case("already, after compiled", target="compiled", says="already", **compiled),
            Case(
                "new pod, no network at all: wheel from the cache",
                target="new",
                says="wheel",
                before=(str(shutil.which("unshare")), "-n"),
                is_new=True,
                **wheel,
            ),
            Case(
                "new pod, --offline: wheel from the cache",
                target="new",
                says="wheel",
                words=("--offline",),
                is_new=True,
                **wheel,
            ),
            Case(
                "new pod: compiled by another one",
                target="new",
                says="compiled",
                is_new=True,
                **compiled,
            ),
        ]
        bench.costs = {name: [] for name in (BARE, *(case.name for case in cases))}
        for number in range(bench.arguments.runs + 1):
            measured = {BARE: bench.bare(), **{case.name: bench.run(case) for case in cases}}
            for name, cost in measured.items() if number else ():  # the first warms the caches
                bench.costs[name].append(cost)
    timed = {name: summarize(costs) for name, costs in bench.costs.items()}
    return {"compile": first.to_json(), "timed": timed}, entry


def judge(timed: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "ms": round(timed[name]["median"] * 1000, 1),
            "limit": limit,
            "met": timed[name]["median"] * 1000 <= limit,
        }
        for name, limit in LIMITS_MS.items()
    }


def write(result: dict[str, Any], out: Path) -> str:
    """`out`.json with everything, `out`.md for people."""
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    rows: list[list[object]] = [["", "median, ms", "least", "most", "at most"]]
    for name, row in result["timed"].items():
        limit = result["verdict"].get(name)
        said = f"{limit['limit']}: {'met' if limit['met'] else 'NOT MET'}" if limit else ""
        rows.append([name, *(round(row[key] * 1000, 1) for key in ("median", "min", "max")), said])
    head = ("date", "command", "machine", "versions", "load", "wheel", "compile")
    facts = "".join(f"- {name}: {result[name]}\n" for name in head)
    text = f"# A second start, and a new pod without a network\n\n{facts}\n{format_table(rows)}\n"
    out.with_suffix(".md").write_text(text)
    return text


def read_versions(arguments: argparse.Namespace) -> dict[str, str]:
    """What took part."""
    ask = "import sys, importlib.metadata as m; print(sys.version.split()[0], m.version('torch'))"
    found = subprocess.run(
        [arguments.python, "-c", ask], check=True, capture_output=True, text=True
    ).stdout.split()
    said = subprocess.run(
        [arguments.python, arguments.zipapp, "--version"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return {"python": found[0], "torch": found[1], "apex-install": said[1]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--python", type=Path, required=True, help="with a torch, and setuptools to compile by")
    add("--cuda", type=Path, required=True, help="a toolkit of that torch's CUDA")
    add("--zipapp", type=Path, required=True, help="with the recipe of --source")
    add("--source", type=Path, required=True, help="what is compiled")
    add("--runs", type=int, default=15)
    add("--out", type=Path, required=True, help="result without suffix: .json and .md are written")
    arguments = parser.parse_args()
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory(prefix="second-start-") as name:
        found, entry = race(Bench(arguments, Path(name)))
    load.append(os.getloadavg()[0])
    result = {
        **describe_run(),
        "versions": read_versions(arguments),
        "load": {"before": round(load[0], 1), "after": round(load[1], 1)},
        "wheel": f"{entry.file}, {entry.size} bytes",
        **found,
        "verdict": judge(found["timed"]),
    }
    print(write(result, arguments.out))
    return 0 if all(verdict["met"] for verdict in result["verdict"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
