"""Evidence from any pod: the report of `apex-install check --run --json`, added to its entry.

Nobody vouches for such a report, so it is marked `self-reported`, matched by the sha256 of the
wheel that is installed there, and never takes the place of what the farm itself ran.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from apex_installer.model.report import SCHEMA
from wheelbuild.errors import TestError, UsageError
from wheelbuild.index.writing import write_index

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from apex_installer.model.entry import Entry
    from wheelbuild.stores.store import Store

SELF_REPORTED = "self-reported"
UNTESTED = "untested"
LONGEST = 80
"""Characters of a GPU's, a driver's or a torch's name."""
COMMAND = "apex-install check --run --json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Added:
    """How it ended."""

    state: Literal["added", "kept"]
    """`kept`: the entry has evidence that is as good or better."""
    entry: Entry


def add_evidence(path: Path, *, store: Store) -> Added:
    """Add a report's evidence to the entry of its wheel, and render the pages.

    UsageError for a report that proves nothing or is of no wheel of this index; TestError where a
    check failed, which is a reason to yank and not to add.
    """
    report = read_report(path)
    with store.locked():
        held = store.entries()
        entry = _find(report, held, where=str(path))
        tests = make_evidence(report, entry, where=str(path))
        if not is_better(tests, entry.tests):
            return Added(state="kept", entry=entry)
        store.put_entry(better := replace(entry, tests=tests))
        others = (other for other in held if other.sha256 != entry.sha256)
        write_index((*others, better), store=store)
    return Added(state="added", entry=better)


def read_report(path: Path) -> Mapping[str, Any]:
    """Read the JSON of a report; UsageError for what is none, or a newer one."""
    try:
        report = json.loads(path.read_bytes())
        schema = report["schema"]
        report["outcome"], report["evidence"], report["environment"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: not a report of {COMMAND}: {error!r}") from error
    if schema != SCHEMA:
        raise UsageError(f"{path}: schema {schema!r}, this farm reads {SCHEMA}: update it")
    found: Mapping[str, Any] = report
    return found


def _find(report: Mapping[str, Any], held: tuple[Entry, ...], *, where: str) -> Entry:
    chosen = report.get("chosen") or {}
    sha256 = chosen.get("sha256") if isinstance(chosen, dict) else None
    if not sha256:
        raise UsageError(
            f"{where}: does not say which wheel it is of: only one that apex-install put there is "
            "known by its sha256"
        )
    for entry in held:
        if entry.sha256 == sha256:
            return entry
    raise UsageError(f"{where}: of {chosen.get('file')}, sha256 {sha256}: not in this index")


def make_evidence(report: Mapping[str, Any], entry: Entry, *, where: str) -> dict[str, Any]:
    """What goes into the entry, and nothing that is not of the form expected. Pure."""
    results = report["evidence"]
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise UsageError(f"{where}: its evidence is not a list of results")
    for one in results:
        if one.get("failed"):
            what = f"{one.get('failed')} checks failed on {one.get('gpu')}"
            raise TestError(f"{entry.file}: {one.get('module')}: {what}: {one.get('first_error')}")
    ran = [one for one in results if one.get("gpu") and "skipped" not in one]
    if not ran or report.get("exit_code") != 0:
        line = report.get("line") or "nothing was run"
        raise UsageError(f"{where}: no GPU has run it ({line}): {COMMAND}, where there is one")
    strange = sorted({str(one.get("module")) for one in ran} - set(entry.module_names))
    if strange:
        raise UsageError(f"{where}: {entry.file} has no {', '.join(strange)}")
    modules = {one["module"]: _counts(one, where=where) for one in ran}
    driver, torch = ran[0].get("driver"), report["environment"].get("torch")
    return {
        "gpu": _name(ran[0]["gpu"], where=where),
        **({"driver": _name(driver, where=where)} if driver else {}),
        "torch": _name(torch, where=where),
        "passed": sum(counts["passed"] for counts in modules.values()),
        "modules": modules,
        "source": SELF_REPORTED,
    }


def is_better(new: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """Whether evidence may replace what is held: none, or another pod's of fewer modules. Pure."""
    if held.get("gpu", UNTESTED) == UNTESTED:
        return True
    if held.get("source") != SELF_REPORTED:
        return False
    return set(held.get("modules", ())) < set(new["modules"])


def _counts(one: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    passed, seconds = one.get("passed"), one.get("seconds", 0)
    if type(passed) is not int or passed < 1 or not isinstance(seconds, (int, float)):
        raise UsageError(f"{where}: {one.get('module')}: passed {passed!r} in {seconds!r} s")
    return {"passed": passed, "failed": 0, "seconds": seconds}


def _name(value: object, *, where: str) -> str:
    """A name that is shown on pages: short, printable, one line."""
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= LONGEST:
        raise UsageError(f"{where}: {str(value)[:LONGEST]!r} is not the name of a GPU or version")
    return value
