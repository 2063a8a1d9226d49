"""The branch of the pages and the installer's release, against a GitHub of ours."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from support.fake_github import REPOSITORY, TOKEN, Fault, serve_github
from wheelbuild.errors import PublishError, UsageError
from wheelbuild.github.api import Api
from wheelbuild.github.branch import PagesBranch
from wheelbuild.github.installer import release_installer
from wheelbuild.github.releases import Releases
from wheelbuild.github.repository import Repository, pages_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fake_github import FakeGitHub

pytestmark = pytest.mark.integration


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with serve_github(tmp_path / "github") as served:
        yield served


def branch_of(github: FakeGitHub, folder: Path) -> PagesBranch:
    return PagesBranch(Repository.read(REPOSITORY, environ=github.environ()), folder)


def releases_of(github: FakeGitHub) -> Releases:
    repository = Repository.read(REPOSITORY, environ=github.environ())
    return Releases(Api(repository, sleep=lambda _: None))


def test_a_new_branch_is_pushed_and_fetched_again(github: FakeGitHub, tmp_path: Path) -> None:
    first = branch_of(github, tmp_path / "first")
    assert not first.fetch()
    (first.folder / "index.html").write_text("page")
    assert first.push()
    assert not first.push()
    second = branch_of(github, tmp_path / "second")
    assert second.fetch()
    assert (second.folder / "index.html").read_text() == "page"
    assert (second.folder / ".nojekyll").exists()
    assert not any(TOKEN in path.read_text() for path in second.folder.rglob(".git/config"))


def test_what_a_killed_run_left_in_the_folder_goes(github: FakeGitHub, tmp_path: Path) -> None:
    branch = branch_of(github, tmp_path / "site")
    branch.fetch()
    branch.push()
    (branch.folder / "index.html").write_text("never pushed")
    branch.fetch()
    assert not (branch.folder / "index.html").exists()


def test_of_two_writers_the_second_is_refused(github: FakeGitHub, tmp_path: Path) -> None:
    branches = [branch_of(github, tmp_path / name) for name in ("one", "two")]
    for branch in branches:
        branch.fetch()
        (branch.folder / "index.html").write_text(branch.folder.name)
    assert branches[0].push()
    with pytest.raises(PublishError, match="git push of gh-pages"):
        branches[1].push()
    tree = github.checkout("gh-pages")
    assert tree
    assert (tree / "index.html").read_text() == "one"


def test_a_folder_of_something_else_is_left_alone(github: FakeGitHub, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        branch_of(github, tmp_path).fetch()
    assert (tmp_path / "mine").read_text() == "mine"


def test_the_installer_is_released_once_whole_and_as_the_latest(
    github: FakeGitHub, tmp_path: Path
) -> None:
    zipapp = tmp_path / "apex-install.pyz"
    for content in (b"one", b"two"):
        zipapp.write_bytes(content)
        assert release_installer(zipapp, releases=releases_of(github))
        assert not release_installer(zipapp, releases=releases_of(github))
    latest = [one for one in github.releases.values() if one.latest][-1]
    digest = sha256(b"two").hexdigest()
    held = {one.name: one.content for one in latest.assets.values()}
    line = f"{digest}  apex-install.pyz\n".encode()
    assert held == {"apex-install.pyz": b"two", "apex-install.pyz.sha256": line}
    assert len(github.releases) == 2


@pytest.mark.parametrize("number", range(6))
def test_an_installer_whose_release_breaks_off_is_seen_by_nobody(
    number: int, github: FakeGitHub, tmp_path: Path
) -> None:
    """0 its tag, 1 drafts, 2 the draft, 3 its assets, 4 the upload, 5 the assets again."""
    zipapp = tmp_path / "apex-install.pyz"
    zipapp.write_bytes(b"one")
    github.faults.update({n: Fault("before") for n in range(number, 99)})
    with pytest.raises(PublishError):
        release_installer(zipapp, releases=releases_of(github))
    assert all(one.draft for one in github.releases.values())
    github.faults.clear()
    assert release_installer(zipapp, releases=releases_of(github))
    (release,) = github.releases.values()
    assert not release.draft
    assert len(release.assets) == 2


def test_a_token_goes_nowhere_unencrypted() -> None:
    environ = {"GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": "http://github.example/api"}
    with pytest.raises(UsageError, match="use https") as got:
        Repository.read(REPOSITORY, environ=environ)
    assert TOKEN not in str(got.value)


@pytest.mark.parametrize("name", ["farm", "a/b/c", "a/b?c", "../x"])
def test_a_repository_is_owner_and_name(name: str) -> None:
    with pytest.raises(UsageError, match="not a repository"):
        Repository.read(name, environ={"GITHUB_TOKEN": TOKEN})


def test_without_a_token_nothing_is_begun() -> None:
    with pytest.raises(UsageError, match="set GITHUB_TOKEN"):
        Repository.read(REPOSITORY, environ={})


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("Someone/Farm", "https://someone.github.io/Farm/"),
        ("Someone/someone.github.io", "https://someone.github.io/"),
    ],
)
def test_where_the_pages_are(name: str, url: str) -> None:
    assert pages_url(name) == url
