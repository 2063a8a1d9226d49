"""`known-failures.toml`: cells that cannot be built, each with its first error and its inputs.

Such a cell is left out of the plan until its inputs change, so that a schedule neither spends
hours on it again nor is red for it. There may be two: one in the data folder, which
`run --note-failures` keeps, and one in the index, which `gather` keeps and which so outlives the
machines that met the failures.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelbuild.document import parse_document, raise_faults
from wheelbuild.errors import BuildError, RepairError, StampError, TestError
from wheelbuild.retry import is_network

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wheelbuild.document import Document
    from wheelbuild.plan import Job

FILE = "known-failures.toml"
HEADER = """\
# Cells that cannot be built, with what they failed of. `plan` leaves such a cell out until its
# inputs change; `--force` tries it again. Kept by `wheelbuild run --note-failures` in the data
# folder, by `wheelbuild gather` in the index.

schema = 1
"""
NOTED = frozenset(error.__name__ for error in (BuildError, RepairError, StampError, TestError)) | {
    "CompileError"
}
"""Errors that the same inputs would meet again; a network or a disk may be better next time."""
MOST = 400
"""Characters of an error that are kept."""
_MACHINE = re.compile(
    r"no space left on device|disk quota exceeded|out of memory|memory exhausted|\bkilled\b|"
    r"no cuda-capable device|no cuda gpus|driver|its test says",
    re.IGNORECASE,
)
"""Words that blame the machine, its disk, memory or GPU: another one may do better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownFailure:
    """One cell and version that failed."""

    cell: str
    version: str
    inputs: str
    """sha256; see `inputs_digest`."""
    step: str
    error: str
    """Its first line."""
    since: str
    """UTC day, `2026-11-26`."""

    @property
    def line(self) -> str:
        """`cp310-…: build failed on 2026-11-26: nvcc said no`."""
        return f"{self.cell}: {self.step} failed on {self.since}: {self.error}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How one cell ended, as far as it matters here."""

    cell: str
    version: str
    inputs: str
    state: str
    """`published` or `already`, else what it failed as."""
    step: str
    said: str
    error: str
    """Its class; empty where there was none."""


def inputs_digest(job: Job) -> str:
    """sha256 over what decides whether the job fails: what its key reads, and what it must fit."""
    read = [job.key(""), job.policy, job.torch_index, job.requires, *job.variants]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()


def find_failure(job: Job, known: Iterable[KnownFailure]) -> KnownFailure | None:
    """Return what is known of this very job, with the inputs it has now."""
    named = (job.cell.label, job.version, inputs_digest(job))
    return next((one for one in known if (one.cell, one.version, one.inputs) == named), None)


def read_failures(folder: Path) -> tuple[KnownFailure, ...]:
    """Read the file of a data folder or an index; none is an empty one. DataError: every fault."""
    path = folder / FILE
    return parse_failures(path.read_text(encoding="utf-8")) if path.is_file() else ()


def parse_failures(text: str) -> tuple[KnownFailure, ...]:
    """Read the file's text; DataError lists every fault. Pure."""
    document = parse_document(text, file=FILE)
    found = _parse(document)
    raise_faults([document])
    return found


def _parse(document: Document) -> tuple[KnownFailure, ...]:
    root = document.root
    root.number("schema", at_least=1)
    found = []
    for table in root.tables("failures", needed=False):
        failure = KnownFailure(
            cell=table.text("cell"),
            version=table.text("version"),
            inputs=table.text("inputs", form=r"[0-9a-f]{64}", like="64 hex digits"),
            step=table.text("step"),
            error=table.text("error"),
            since=table.text("since", form=r"\d{4}-\d\d-\d\d", like="2026-11-26"),
        )
        table.close()
        found.append(failure)
    root.close()
    return tuple(found)


def note_results(
    known: Iterable[KnownFailure], endings: Iterable[Ending], *, today: str
) -> tuple[KnownFailure, ...]:
    """What is known after a run: new failures in, cells that were built out. Pure."""
    found = {(one.cell, one.version): one for one in known}
    for ending in endings:
        place = (ending.cell, ending.version)
        if ending.state in {"published", "already"}:
            found.pop(place, None)
        elif _is_lasting(ending):
            found[place] = KnownFailure(
                cell=ending.cell,
                version=ending.version,
                inputs=ending.inputs,
                step=ending.step,
                error=_first_line(ending.said),
                since=today,
            )
    return tuple(found[place] for place in sorted(found))


def _is_lasting(ending: Ending) -> bool:
    """Whether the same inputs would fail again; a step's own words may blame something else."""
    if ending.state != "failed" or ending.error not in NOTED:
        return False
    return not is_network(ending.said) and _MACHINE.search(ending.said) is None


def failures_text(known: Iterable[KnownFailure]) -> str:
    """The whole file; the same failures give the same text."""
    fields = ("cell", "version", "inputs", "step", "error", "since")
    tables = [
        "\n".join(["[[failures]]", *(f"{name} = {_quote(getattr(one, name))}" for name in fields)])
        for one in known
    ]
    return "\n".join([HEADER, *(f"{table}\n" for table in tables)])


def write_failures(folder: Path, known: Iterable[KnownFailure]) -> Path:
    """Write the file of a data folder or an index."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / FILE, failures_text(known))
    return folder / FILE


def write_whole(path: Path, text: str) -> None:
    """Write a file of the data folder, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _first_line(said: str) -> str:
    line = next((line.strip() for line in said.splitlines() if line.strip()), "it said nothing")
    return line if len(line) <= MOST else f"{line[: MOST - 1]}…"


def _quote(text: str) -> str:
    """A basic string of TOML: JSON's, and DEL too is written by its number."""
    sound = text.encode("utf-8", "replace").decode()
    return json.dumps(sound, ensure_ascii=False).replace("\x7f", "\\u007f")
