"""Evidence from any pod: matched by sha256, marked, and never over better evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer.model.report import Report
from support.index_wheels import write_cell_wheel
from wheelbuild.cli import main
from wheelbuild.errors import TestError, UsageError
from wheelbuild.evidence import add_evidence, is_better
from wheelbuild.index.overview import gpu_evidence
from wheelbuild.publish import publish
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NORM = "fused_layer_norm_cuda"
RESULT = {
    "module": NORM,
    "passed": 63,
    "failed": 0,
    "first_error": None,
    "seconds": 4.5,
    "gpu": "NVIDIA L4",
    "driver": "550.54",
}
OURS = {"gpu": "NVIDIA H200", "driver": "570.1", "passed": 63, "modules": {NORM: {"passed": 63}}}
UNTESTED = {"gpu": "untested", "modules": {NORM: {"skipped": "no GPU"}}}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "index")
    for suffix in ("", "norm"):
        made = write_cell_wheel(tmp_path / f"w{suffix}", suffix=suffix, tests=UNTESTED)
        publish(made.path, made.entry, store=store)
    return store


@pytest.fixture
def report(store: DirectoryStore, tmp_path: Path) -> Callable[..., Path]:
    """The report of a pod where the first wheel is installed; keywords change it."""

    def write(result: dict[str, Any] | None = None, **changes: Any) -> Path:
        made = Report(
            "already",
            0,
            "checked",
            "0.1.0",
            environment={"torch": "2.11.0+cu130"},
            chosen={"file": "apex.whl", "sha256": plain(store).sha256},
            evidence=({**RESULT, **(result or {})},),
        )
        path = tmp_path / "ev.json"
        path.write_text(json.dumps({**made.to_json(), **changes}), encoding="utf-8")
        return path

    return write


def plain(store: DirectoryStore) -> Any:
    return next(entry for entry in store.entries() if not entry.suffix)


def test_a_pod_s_report_goes_to_the_entry_of_its_wheel(
    store: DirectoryStore, report: Callable[..., Path]
) -> None:
    assert add_evidence(report(), store=store).state == "added"
    entry = plain(store)
    assert entry.tests == {
        "gpu": "NVIDIA L4",
        "driver": "550.54",
        "torch": "2.11.0+cu130",
        "passed": 63,
        "modules": {NORM: {"passed": 63, "failed": 0, "seconds": 4.5}},
        "source": "self-reported",
    }
    words = "NVIDIA L4, driver 550.54 (self-reported, 1 of 1 modules)"
    assert gpu_evidence(entry) == words
    assert words in (store.directory / "index.html").read_text("utf-8")
    other = next(entry for entry in store.entries() if entry.suffix)
    assert other.tests == UNTESTED


def test_the_farm_s_own_evidence_is_kept(
    store: DirectoryStore, report: Callable[..., Path]
) -> None:
    store.put_entry(replace(plain(store), tests=OURS))
    assert add_evidence(report(), store=store).state == "kept"
    assert plain(store).tests == OURS


def test_the_farm_s_own_evidence_takes_the_place_of_a_pod_s(
    store: DirectoryStore, report: Callable[..., Path], tmp_path: Path
) -> None:
    add_evidence(report(), store=store)
    made = write_cell_wheel(tmp_path / "w", tests=OURS)
    publish(made.path, made.entry, store=store)
    assert plain(store).tests == OURS


@pytest.mark.parametrize(
    ("new", "held", "better"),
    [
        (["a"], {}, True),
        (["a"], UNTESTED, True),
        (["a"], {"gpu": "x", "modules": {"a": {}}}, False),
        (["a", "b"], {"gpu": "x", "modules": {"a": {}}}, False),
        (["a"], {"gpu": "x", "source": "self-reported", "modules": {"a": {}}}, False),
        (["b"], {"gpu": "x", "source": "self-reported", "modules": {"a": {}}}, False),
        (["a", "b"], {"gpu": "x", "source": "self-reported", "modules": {"a": {}}}, True),
    ],
)
def test_what_is_better_evidence(new: list[str], held: dict[str, Any], better: object) -> None:
    assert is_better({"modules": {name: {} for name in new}}, held) is better


@pytest.mark.parametrize(
    ("result", "changes", "said"),
    [
        ({}, {"chosen": None}, "only one that apex-install put there"),
        ({}, {"chosen": {"file": "x.whl", "sha256": "0" * 64}}, "not in this index"),
        ({}, {"evidence": []}, "no GPU has run it"),
        ({}, {"exit_code": 3, "line": "RECORD differs"}, "no GPU has run it .RECORD differs"),
        ({"skipped": "no GPU"}, {}, "no GPU has run it"),
        ({"gpu": None}, {}, "no GPU has run it"),
        ({"module": "amp_C"}, {}, "has no amp_C"),
        ({"passed": 0}, {}, "passed 0"),
        ({"passed": True}, {}, "passed True"),
        ({"gpu": "x" * 81}, {}, "is not the name of a GPU"),
        ({"gpu": "two\nlines"}, {}, "is not the name of a GPU"),
        ({"driver": ["550"]}, {}, "is not the name of a GPU or version"),
        ({}, {"evidence": ["x"]}, "not a list of results"),
        ({}, {"schema": 2}, "update it"),
    ],
)
def test_a_report_that_proves_nothing_is_refused(
    store: DirectoryStore,
    report: Callable[..., Path],
    result: dict[str, Any],
    changes: dict[str, Any],
    said: str,
) -> None:
    with pytest.raises(UsageError, match=said):
        add_evidence(report(result, **changes), store=store)
    assert plain(store).tests == UNTESTED


def test_a_check_that_failed_is_an_error_and_no_evidence(
    store: DirectoryStore, report: Callable[..., Path]
) -> None:
    path = report({"failed": 2, "first_error": "no kernel image"}, exit_code=3)
    with pytest.raises(TestError, match="2 checks failed on NVIDIA L4: no kernel image"):
        add_evidence(path, store=store)
    assert plain(store).tests == UNTESTED


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}"])
def test_what_is_no_report_is_refused(store: DirectoryStore, tmp_path: Path, text: str) -> None:
    path = tmp_path / "ev.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"ev\.json: not a report"):
        add_evidence(path, store=store)


def test_the_command(
    store: DirectoryStore, report: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evidence", "add", str(report()), "--index", str(store.directory)]
    assert main(words) == 0
    assert capsys.readouterr().out == "added\n"
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "kept"
