"""A torch that appears becomes one pull request, and by that a planned cell."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.act import Workflows
from support.fake_github import REPOSITORY as NAME
from support.fake_github import TOKEN, FakeGitHub, serve_github
from support.farm_data import write_data
from support.replay import replay_torch
from wheelbuild.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import tzinfo

pytestmark = pytest.mark.integration

BRANCH = "wheelbuild/discover"
NEW = "cp312-torch2.16-cu130-linux_x86_64"
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Farm:
    """A checkout of a repository whose data lie in `data`, and its GitHub."""

    github: FakeGitHub
    checkout: Path

    def discover(self, *releases: str) -> int:
        with replay_torch(*releases) as server:
            urls = ["--pypi-url", f"{server.url}/simple", "--pytorch-url", f"{server.url}/whl"]
            words = ["--data", str(self.checkout / "data"), "--store", f"github:{NAME}"]
            return main(["discover", "--propose", *words, *urls])

    def commit(self, text: str, *, branch: str) -> None:
        """Somebody's own commit on top of a branch."""
        folder = self.github.checkout(branch)
        assert folder
        with (folder / "data/matrix.toml").open("a") as file:
            file.write(text)
        git(folder, "commit", "-q", "-a", "-m", "by hand")
        git(folder, "push", "-q", "origin", branch)

    @property
    def tip(self) -> str:
        return git(self.github.git, "rev-parse", BRANCH)


class Later(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Later:
        return cls(2030, 1, 1, tzinfo=tz)


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with serve_github(tmp_path / "github") as served:
        yield served


@pytest.fixture
def farm(github: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Farm:
    for name, value in github.environ().items():
        monkeypatch.setenv(name, value)
    whole, checkout = tmp_path / "whole", tmp_path / "checkout"
    write_data(whole / "data")
    git(tmp_path, "init", "-q", "-b", "main", str(whole))
    git(whole, "add", ".")
    git(whole, "commit", "-q", "-m", "first")
    git(whole, "commit", "-q", "--allow-empty", "-m", "second")
    git(whole, "push", "-q", str(github.git), "main")
    # As a workflow has it: the newest commit alone.
    git(tmp_path, "clone", "-q", "--depth", "1", github.git.as_uri(), str(checkout))
    return Farm(github, checkout)


def test_a_torch_that_appears_is_proposed_once_and_then_planned(
    github: FakeGitHub,
    tmp_path: Path,
    requires_tool: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the workflow: a schedule and, after it, a run by hand."""
    environ = {"HTTPS_PROXY": NOWHERE, "https_proxy": NOWHERE}
    workflows = Workflows(requires_tool("act"), tmp_path, github, Path("data"), environ)
    write_data(workflows.repository / "data")
    with replay_torch("2.11.0", "2.16.0") as server:
        environ["PIP_INDEX_URL"] = f"{server.url}/simple"
        workflows.prepare()
        first = workflows.run("schedule", "discover.yml")
        again = workflows.run("workflow_dispatch", "discover.yml")
    assert first.code == 0, first.said[-3000:]
    (pull,) = github.pulls
    assert f"Opened: {github.url}/{NAME}/pull/{pull.number}" in first.summary
    assert (pull.head, pull.title, pull.state) == (BRANCH, "Matrix: torch 2.16", "open")
    assert f"- `{NEW}`" in pull.body
    assert "PyTorch's own index is left out" in pull.body
    assert again.code == 0
    assert "Open already, with this very change" in again.summary
    assert TOKEN not in first.said + first.summary + pull.body
    tree = github.checkout(BRANCH)
    assert tree
    changed = git(tree, "diff", "--name-only", "origin/main", f"origin/{BRANCH}")
    assert changed == "data/matrix.toml"
    words = ["--data", str(tree / "data"), "--index", str(tmp_path / "index"), "--json"]
    assert main(["plan", *words]) == 0
    plan: Any = json.loads(capsys.readouterr().out)
    assert plan["include"][0]["cells"] == NEW


def test_what_appears_later_renews_the_same_one(farm: Farm) -> None:
    assert farm.discover("2.16.0") == 0
    first = farm.tip
    assert farm.discover("2.16.0", "2.17.0") == 0
    (pull,) = farm.github.pulls
    assert pull.title == "Matrix: torch 2.16, 2.17"
    assert farm.tip != first
    assert git(farm.github.git, "rev-list", "--count", f"main..{BRANCH}") == "1"
    assert not git(farm.checkout, "status", "--porcelain")


def test_what_was_closed_is_not_proposed_again_on_any_day(
    farm: Farm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert farm.discover("2.16.0") == 0
    (pull,) = farm.github.pulls
    pull.state = "closed"
    before = farm.tip
    monkeypatch.setattr("wheelbuild.discovery.datetime", Later)
    assert farm.discover("2.16.0") == 0
    assert "Not proposed again: this very change was closed unmerged" in caplog.text
    assert (len(farm.github.pulls), farm.tip) == (1, before)
    assert farm.discover("2.16.0", "2.17.0") == 0
    assert [one.state for one in farm.github.pulls] == ["closed", "open"]


def test_where_nothing_is_new_nothing_is_asked(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    assert farm.discover() == 0
    assert "Nothing to propose" in caplog.text
    assert farm.github.requests == []


def test_what_a_person_added_to_the_branch_stays(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    assert farm.discover("2.16.0") == 0
    farm.commit("# looked over\n", branch=BRANCH)
    theirs = farm.tip
    assert farm.discover("2.16.0", "2.17.0") == 0
    assert "Left alone" in caplog.text
    assert farm.tip == theirs


def test_the_setting_that_forbids_it_is_named(
    farm: Farm, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.github.may_open_pulls = False
    assert farm.discover("2.16.0") == 3
    said = capsys.readouterr().err
    assert "Allow GitHub Actions to create and approve pull requests" in said
    farm.github.may_open_pulls = True
    assert farm.discover("2.16.0") == 0
    assert len(farm.github.pulls) == 1


def test_an_old_checkout_is_refused(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    """Its change would undo what main has got since."""
    farm.commit("# newer\n", branch="main")
    assert farm.discover("2.16.0") == 2
    assert "is not at the newest commit of main" in capsys.readouterr().err
    assert farm.github.pulls == []


def test_data_that_lie_in_no_repository_are_refused(
    farm: Farm, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(farm.checkout / ".git")
    assert farm.discover("2.16.0") == 3
    assert "git rev-parse" in capsys.readouterr().err
