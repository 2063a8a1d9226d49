"""`jobs --wanted`: what people ask for in issues is made first, by a GitHub of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.fake_github import REPOSITORY, Fault, PullRequest, serve_github
from support.machine import SMALL
from wheelbuild.cli import main as farm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fake_github import FakeGitHub

pytestmark = pytest.mark.integration

CELLS = "cp312-torch2.6 cp313-torch2.6 cp310-torch2.11"
NEWEST, TWELVE, THIRTEEN = (
    "cp310-torch2.11-cu130-linux_x86_64",
    "cp312-torch2.6-cu124-linux_x86_64",
    "cp313-torch2.6-cu124-linux_x86_64",
)


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    with serve_github(tmp_path / "github") as served:
        for name, value in served.environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("WHEELBUILD_STORE", f"github:{REPOSITORY}")
        yield served


def issue(cell: str, **changes: Any) -> dict[str, Any]:
    body = f"### Cell\n\n{cell}\n"
    return {"title": "Want", "body": body, "state": "open", "labels": ["wanted"], **changes}


def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    common = ["--data", str(SMALL), "jobs", "--cells", CELLS, "--index", str(tmp_path / "index")]
    assert farm([*common, *words]) == 0
    cells: list[str] = json.loads(capsys.readouterr().out)
    return cells


def test_what_open_issues_ask_for_comes_first(
    github: FakeGitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    github.page = 2  # the third is on another page
    github.issues = [issue(TWELVE), issue(THIRTEEN), issue(THIRTEEN, body=None, title=THIRTEEN)]
    github.issues += [issue(NEWEST, state="closed"), issue(NEWEST, labels=["bug"])] * 3
    github.pulls.append(PullRequest(number=9, head="x", title=NEWEST, body=NEWEST))
    assert ask(tmp_path, capsys, "--wanted") == [THIRTEEN, TWELVE, NEWEST]


def test_without_the_flag_nobody_is_asked(
    github: FakeGitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    github.issues = [issue(THIRTEEN)]
    assert ask(tmp_path, capsys) == [NEWEST, TWELVE, THIRTEEN]
    assert github.requests == []


def test_a_github_that_does_not_tell_leaves_the_order_and_says_so(
    github: FakeGitHub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    github.issues = [issue(THIRTEEN)]
    github.faults = {0: Fault("before", status=410, body={"message": "Issues are disabled"})}
    assert ask(tmp_path, capsys, "--wanted") == [NEWEST, TWELVE, THIRTEEN]
    assert "the order is ours: GET /api/repos/Someone/farm/issues: 410 Issues are" in caplog.text


def test_wanted_needs_a_repository(
    github: FakeGitHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WHEELBUILD_STORE")
    assert farm(["--data", str(SMALL), "jobs", "--wanted"]) == 2
    assert "--store github:owner/name says in which repository" in capsys.readouterr().err
    assert github.requests == []
