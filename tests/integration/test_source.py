"""Real git, against repositories of this machine."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.jobs import make_job
from wheelbuild.errors import SourceError
from wheelbuild.source import copy_source, find_source

if TYPE_CHECKING:
    from pathlib import Path

    from wheelbuild.plan import Job

pytestmark = pytest.mark.integration

AUTHOR = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.invalid",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.invalid",
}


def git(directory: Path, *words: str) -> str:
    command = ["git", "-C", str(directory), *words]
    environ = {**os.environ, **AUTHOR}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environ
    ).stdout.strip()


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    folder = tmp_path / "upstream"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    for text in ("one", "two"):
        (folder / "setup.py").write_text(f"# {text}\n")
        git(folder, "add", "setup.py")
        git(folder, "commit", "--quiet", "-m", text)
    return folder


@pytest.fixture
def job(upstream: Path) -> Job:
    return make_job(git_url=upstream.as_uri(), ref=git(upstream, "rev-parse", "HEAD~1"))


def test_the_pinned_commit_is_fetched_once(job: Job, upstream: Path, tmp_path: Path) -> None:
    source = find_source(job, given=None, cache=tmp_path / "cache")
    assert source.how == "pinned"
    assert (source.directory / "setup.py").read_text() == "# one\n"
    upstream.rename(tmp_path / "away")
    assert find_source(job, given=None, cache=tmp_path / "cache") == source


def test_a_commit_that_cannot_be_had_names_the_way_out(job: Job, tmp_path: Path) -> None:
    nowhere = make_job(git_url=(tmp_path / "nothing").as_uri(), ref=job.ref)
    with pytest.raises(SourceError, match=r"--source DIR"):
        find_source(nowhere, given=None, cache=tmp_path / "cache")


def test_a_checkout_of_the_commit_is_taken(job: Job, upstream: Path, tmp_path: Path) -> None:
    git(upstream, "checkout", "--quiet", job.ref)
    assert find_source(job, given=upstream, cache=tmp_path).how == "checkout"


def test_a_changed_checkout_is_not_called_one(job: Job, upstream: Path, tmp_path: Path) -> None:
    git(upstream, "checkout", "--quiet", job.ref)
    (upstream / "setup.py").write_text("# mine\n")
    assert find_source(job, given=upstream, cache=tmp_path).how == "folder"


def test_a_checkout_of_another_commit_is_refused(job: Job, upstream: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"run git checkout {job.ref[:12]}"):
        find_source(job, given=upstream, cache=tmp_path)


def test_a_folder_below_another_checkout_is_a_folder(
    job: Job, upstream: Path, tmp_path: Path
) -> None:
    inner = upstream / "inner"
    inner.mkdir()
    (inner / "setup.py").write_text("")
    assert find_source(job, given=inner, cache=tmp_path).how == "folder"


def test_a_folder_without_setup_py_is_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no setup\.py"):
        find_source(job, given=tmp_path, cache=tmp_path)


def test_a_copy_leaves_out_what_builds_left(job: Job, upstream: Path, tmp_path: Path) -> None:
    for name in ("build", "apex/build", "apex.egg-info"):
        (upstream / name).mkdir(parents=True)
        (upstream / name / "file").write_text("")
    os.utime(upstream / "setup.py", (1e9, 1e9))
    git(upstream, "checkout", "--quiet", job.ref)
    os.utime(upstream / "setup.py", (1e9, 1e9))
    copy_source(find_source(job, given=upstream, cache=tmp_path), into=tmp_path / "src")
    found = {str(p.relative_to(tmp_path / "src")) for p in (tmp_path / "src").rglob("*")}
    assert found == {"setup.py", "apex", "apex/build", "apex/build/file"}
    assert (tmp_path / "src/setup.py").stat().st_mtime == 1e9
