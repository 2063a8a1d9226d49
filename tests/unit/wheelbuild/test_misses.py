"""What pods and people missed, counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apex_installer.model.report import Attempt, Report
from apex_installer.want import want_url
from support.wheels import tiny_environment
from wheelbuild.errors import UsageError
from wheelbuild.misses import count_misses

CELL = "cp310-torch2.4-cu121-linux_x86_64"
FACTS = {"python_tag": "cp310", "platform": "linux_x86_64", "torch": "2.4.0+cu121", "cuda": "12.1"}


def report(*, cause: str = "no-wheel", outcome: str = "wheel", **facts: Any) -> str:
    attempts = (Attempt(outcome, cause, "said"),)
    made = Report("python-only", 0, "x", "0.1.0", environment={**FACTS, **facts}, attempts=attempts)
    return json.dumps(made.to_json())


@pytest.mark.parametrize(
    "line",
    [
        report(),
        report(platform="linux-x86_64"),
        json.dumps({"title": f"Want this wheel: {CELL}", "body": ""}),
        json.dumps({"title": "please", "body": f"### Cell\n\n{CELL}\n\n### GPU\n\nsm_89"}),
        json.dumps({"title": "cp310-torch2.4-cu121 please!", "body": None}),
        json.dumps([{"title": f"Want this wheel: {CELL}", "body": CELL}]),
    ],
)
def test_a_miss_counts_once(line: str) -> None:
    assert dict(count_misses([line], where="x")) == {CELL: 1}


@pytest.mark.parametrize(
    "line",
    [
        "",
        report(cause="download"),
        report(outcome="compiled"),
        report(cuda=None),
        report(torch=None),
        report(python_tag=None),
        json.dumps({"title": "how do I use this?", "body": "torch 2.4 and cp310"}),
        json.dumps({"outcome": "none", "attempts": []}),
    ],
)
def test_what_is_no_miss_counts_for_nothing(line: str) -> None:
    assert not count_misses([line], where="x")


def test_reports_and_issues_add_up() -> None:
    lines = [report(), json.dumps({"title": CELL, "body": ""}), report(python_tag="cp311")]
    assert count_misses(lines, where="x") == {CELL: 2, CELL.replace("cp310", "cp311"): 1}


def test_the_title_of_the_form_is_understood() -> None:
    pod = tiny_environment("/t")
    url = want_url("https://example.invalid/o/r", pod, ["m"])
    title = url.partition("title=")[2].partition("&")[0].replace("%20", " ").replace("%3A", ":")
    assert pod.cell is not None
    assert list(count_misses([json.dumps({"title": title})], where="x")) == [pod.cell.label]


@pytest.mark.parametrize("line", ["{", "3", "[3]", '{"a": 1}', '{"outcome": 1, "attempts": 3}'])
def test_a_line_that_is_neither_is_named(line: str) -> None:
    with pytest.raises(UsageError, match=r"misses\.jsonl:2: neither a report"):
        count_misses([report(), line], where="misses.jsonl")
