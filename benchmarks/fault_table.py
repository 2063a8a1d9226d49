"""Start an app by run.sh with every fault of `tests/support/pod_faults.py`; write the table.

    python benchmarks/fault_table.py [--only WORD] [--out benchmarks/results/DATE-faults.json]

Writes docs/reference/faults.md too, unless a part was asked for. Needs no GPU; the rows with a real
compiler take torch 2.11.0 and CUDA 13.0 as the tests do. Exit code 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import describe_run, format_table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
PAGE = ROOT / "docs/reference/faults.md"

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = """\
<!-- Made by `python benchmarks/fault_table.py`; do not edit. -->
# Faults, and how the app starts all the same

Each row is one start of `run.sh sh -c …` in a pod of its own with one thing spoilt. In every row
the app started within the budget and 3 s, with its own arguments, stdin and exit status, and no
process was left behind. A row without an outcome is one where the installer itself could not speak:
it was killed, is missing, or its Python does not run.

`python-only` is there where the installer carries such a wheel; the other rows show what happens
without one. *Budget* is `DEADLINE`, and `COMPILE_TIMEOUT` where a compile may be tried, both short.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only rows whose group or name holds this")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    run = describe_run()
    rows = play(arguments.only)
    result = {
        **run,
        "versions": {
            "python": platform.python_version(),
            "apex-install": version("apex-installer"),
        },
        "faults": len(rows),
        "broken": sum(bool(row["broken"]) for row in rows),
        "rows": rows,
    }
    out = arguments.out or ROOT / f"benchmarks/results/{run['date']}-faults.json"
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not arguments.only:
        PAGE.write_text(page(result), encoding="utf-8")
    print(f"{result['faults']} faults, {result['broken']} with a broken promise: {out}")
    return 1 if result["broken"] else 0


def play(only: str) -> list[dict[str, Any]]:
    """Each fault in a fresh pod; those that this machine cannot play are left out, and said."""
    from support.fault import Kits  # noqa: PLC0415 - beside the tests
    from support.pod_faults import FAULTS  # noqa: PLC0415

    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    kits, rows = Kits(folder / "kits"), []
    try:
        for number, fault in enumerate(fault for fault in FAULTS if only in str(fault)):
            if missing := fault.missing():
                print(f"left out, no {missing}: {fault}")
                continue
            place = folder / str(number)
            told = fault.run(place, kits)
            shutil.rmtree(place, ignore_errors=True)
            print("BROKEN" if told.broken else "ok", f"{told.seconds:6.2f} s", fault, *told.broken)
            row = {**asdict(told), "outcome": told.last_word, "line": last_line(told.said, folder)}
            row["seconds"] = round(told.seconds, 2)
            del row["said"]
            rows.append({"group": fault.group, "fault": fault.name, **row})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows


def last_line(said: str, folder: Path) -> str:
    """What people see; paths of this run are cut."""
    lines = [line for line in said.splitlines() if line.startswith("apex: ")]
    return re.sub(r"tmp-[^/]+-\d+/", "tmp/", lines[-1].replace(f"{folder}/", "")) if lines else ""


def page(result: dict[str, Any]) -> str:
    rows: Sequence[dict[str, Any]] = result["rows"]
    counts = Counter(row["outcome"] or "no word" for row in rows)
    outcomes = ", ".join(f"{count} × {name}" for name, count in counts.most_common())
    parts = [HEAD, f"{len(rows)} faults: {outcomes}.\n"]
    for group in dict.fromkeys(row["group"] for row in rows):
        table: list[Sequence[object]] = [("fault", "outcome", "causes", "seconds", "budget")]
        table += [
            (
                row["fault"],
                row["outcome"] or "–",
                ", ".join(row["causes"]) or "–",
                f"{row['seconds']:.2f}",
                f"{row['budget']:g}",
            )
            for row in rows
            if row["group"] == group
        ]
        parts.append(f"## {group.capitalize()}\n\n{format_table(table)}")
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    parts.append(
        f"Made on {result['date']} by `{result['command']}`; machine: {machine}; {versions}.\n"
    )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
