"""Wheels as assets of GitHub Releases, against a GitHub that behaves as the real one does."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import nullcontext, suppress
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from support.clients import Clients, make_target
from support.fake_github import REPOSITORY, TOKEN, Fault, serve_github
from support.index_wheels import CellWheel, write_cell_wheel, write_simple_index, write_wheel
from wheelbuild.errors import PublishError
from wheelbuild.github.api import Api
from wheelbuild.github.assets import Content, decide
from wheelbuild.github.releases import Asset, Releases
from wheelbuild.github.repository import Repository
from wheelbuild.publish import publish
from wheelbuild.serve import IndexServer
from wheelbuild.stores.releases import ReleasesStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fake_github import FakeGitHub

pytestmark = pytest.mark.integration

PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
CELL = f"{PYTHON}-torch2.11-cu130-linux_x86_64"
SECOND = f"{PYTHON}-torch2.11-cu126-linux_x86_64"
LIMITED = {"message": "You have exceeded a secondary rate limit. Please wait."}


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with serve_github(tmp_path / "github") as served:
        yield served


@pytest.fixture
def made(tmp_path: Path) -> CellWheel:
    return write_cell_wheel(tmp_path / "built", cell=CELL)


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def store(github: FakeGitHub, tmp_path: Path, waits: list[float]) -> ReleasesStore:
    return make_store(github, tmp_path / "site", waits=waits)


def make_store(
    github: FakeGitHub, folder: Path, *, waits: list[float] | None = None, capacity: int = 1000
) -> ReleasesStore:
    repository = Repository.read(REPOSITORY, environ=github.environ())
    slept: list[float] = [] if waits is None else waits
    releases = Releases(Api(repository, sleep=slept.append))
    return ReleasesStore(folder, releases=releases, capacity=capacity)


def check_index(folder: Path, github: FakeGitHub) -> int:
    """What every page names can be had, whole, sidecar too; how many files they name."""
    named = 0
    for page in folder.rglob("simple/apex/index.json"):
        for file in json.loads(page.read_bytes())["files"]:
            assert file["url"].startswith(f"{github.url}/{REPOSITORY}/releases/download/wheels-")
            assert fetch_sha256(file["url"]) == file["hashes"]["sha256"]
            assert fetch_sha256(f"{file['url']}.metadata") == file["core-metadata"]["sha256"]
            named += 1
    return named


def fetch_sha256(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as response:  # noqa: S310 - loopback
        return sha256(response.read()).hexdigest()


def test_wheel_and_sidecar_become_assets_and_the_pages_name_them(
    store: ReleasesStore, github: FakeGitHub, made: CellWheel
) -> None:
    assert publish(made.path, made.entry, store=store).state == "published"
    assert github.names("wheels-1") == [made.path.name, f"{made.path.name}.metadata"]
    assert check_index(store.directory, github) == 1
    assert not list(store.directory.rglob("*.whl"))
    (entry,) = store.entries()
    assert "%2B" in entry.url
    assert "+" not in entry.url


def test_a_variant_is_an_asset_and_what_describes_it_a_page(
    store: ReleasesStore, github: FakeGitHub, made: CellWheel, tmp_path: Path
) -> None:
    variant = write_cell_wheel(tmp_path / "built", cell=CELL, variant="sm90")
    for one in (made, variant):
        publish(one.path, one.entry, store=store)
    assert {made.path.name, variant.path.name} < set(github.names("wheels-1"))
    page = store.directory / "cu130/torch2.11/simple/apex/index.json"
    files = {one["filename"]: one for one in json.loads(page.read_bytes())["files"]}
    described = files.pop(f"apex-{variant.entry.version}-variants.json")
    place = page.parent / unquote(described["url"])
    assert sha256(place.read_bytes()).hexdigest() == described["hashes"]["sha256"]
    assert set(files) == {made.path.name, variant.path.name}
    for file in files.values():
        assert fetch_sha256(file["url"]) == file["hashes"]["sha256"]


def test_again_changes_nothing(store: ReleasesStore, github: FakeGitHub, made: CellWheel) -> None:
    publish(made.path, made.entry, store=store)
    before = {number: one.assets.copy() for number, one in github.releases.items()}
    github.requests.clear()
    assert publish(made.path, made.entry, store=store).state == "already"
    assert {number: one.assets for number, one in github.releases.items()} == before
    assert {request.split()[0] for request in github.requests} == {"GET"}


def test_sources_and_requirements_stay_in_the_folder(
    store: ReleasesStore, github: FakeGitHub, tmp_path: Path
) -> None:
    archive = tmp_path / "apex.tar.gz"
    archive.write_bytes(b"source")
    url = store.put_file(archive, sha256=sha256(b"source").hexdigest())
    assert (store.directory / url).read_bytes() == b"source"
    assert not github.requests


@pytest.mark.parametrize("state", ["uploaded", "starter"])
def test_what_no_entry_names_is_deleted_and_uploaded_again(
    state: str, store: ReleasesStore, github: FakeGitHub, made: CellWheel
) -> None:
    release = github.add_release("wheels-1")
    stale = github.add_asset(release, made.path.name, b"half", state)
    publish(made.path, made.entry, store=store)
    assert stale.number not in release.assets
    assert check_index(store.directory, github) == 1


def test_what_an_entry_names_is_never_touched(
    store: ReleasesStore, github: FakeGitHub, made: CellWheel
) -> None:
    publish(made.path, made.entry, store=store)
    asset = github.release("wheels-1").named(made.path.name)
    asset.content = b"something else"
    with pytest.raises(PublishError, match="nothing is overwritten"):
        publish(made.path, made.entry, store=store)
    assert github.release("wheels-1").named(made.path.name) is asset
    assert asset.content == b"something else"


@pytest.mark.parametrize("damage", ["missing", "starter"])
def test_a_named_asset_that_is_not_there_is_uploaded_again(
    damage: str, store: ReleasesStore, github: FakeGitHub, made: CellWheel
) -> None:
    publish(made.path, made.entry, store=store)
    release = github.release("wheels-1")
    asset = release.named(made.path.name)
    if damage == "missing":
        del release.assets[asset.number]
    else:
        asset.state = "starter"
    publish(made.path, made.entry, store=store)
    assert check_index(store.directory, github) == 1


def test_a_full_release_is_followed_by_the_next(github: FakeGitHub, tmp_path: Path) -> None:
    github.page = 2
    store = make_store(github, tmp_path / "site", capacity=5)
    for date in ("20260101", "20260201", "20260301", "20260401", "20260501"):
        made = write_cell_wheel(tmp_path / "built", cell=CELL, date=date)
        publish(made.path, made.entry, store=store)
    assert [len(github.names(f"wheels-{n}")) for n in (1, 2, 3)] == [4, 4, 2]
    assert check_index(tmp_path / "site", github) == 5


def test_a_name_that_github_would_change_is_refused_and_taken_back(
    tmp_path: Path, made: CellWheel
) -> None:
    with serve_github(tmp_path / "other", keeps_plus=False) as github:
        store = make_store(github, tmp_path / "site")
        with pytest.raises(PublishError, match="GitHub calls it apex-"):
            publish(made.path, made.entry, store=store)
        assert github.names("wheels-1") == []
        assert not store.entries()


FAULTS = {
    "a server that fails": Fault("before", status=502),
    "a secondary limit": Fault("before", status=403, headers={"Retry-After": "7"}, body=LIMITED),
    "a secondary limit without a time": Fault("before", status=403, body=LIMITED),
    "too many requests": Fault("before", status=429, headers={"Retry-After": "7"}),
    "a connection that breaks": Fault("before"),
    "an answer that is lost": Fault("after"),
    "an answer that says failed, though it was done": Fault("after", status=500),
}


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_one_fault_at_any_request_is_got_over(
    fault: Fault,
    number: int,
    store: ReleasesStore,
    github: FakeGitHub,
    made: CellWheel,
    waits: list[float],
) -> None:
    github.faults[number] = Fault(fault.when, status=fault.status, headers=fault.headers)
    github.faults[number].body = fault.body
    # Nobody knows whether a release was made: the next run finds it.
    with suppress(PublishError) if number == 1 else nullcontext():
        publish(made.path, made.entry, store=store)
    publish(made.path, made.entry, store=store)
    assert check_index(store.directory, github) == 1
    assert len(github.names("wheels-1")) == 2
    if "Retry-After" in fault.headers:
        assert waits == [7.0]


def test_a_limit_that_lasts_ends_in_one_clear_line(
    store: ReleasesStore, github: FakeGitHub, made: CellWheel
) -> None:
    github.faults.update({n: Fault("before", status=403, body=LIMITED) for n in range(99)})
    with pytest.raises(PublishError, match="403 You have exceeded a secondary rate limit") as got:
        publish(made.path, made.entry, store=store)
    assert len(str(got.value).splitlines()) == 1
    assert not store.entries()


def test_a_refusal_is_not_asked_again(
    store: ReleasesStore, github: FakeGitHub, made: CellWheel, waits: list[float]
) -> None:
    github.faults[1] = Fault("before", status=403, body={"message": "Resource not accessible"})
    with pytest.raises(PublishError, match=r"POST /api/repos/.*: 403 Resource not accessible"):
        publish(made.path, made.entry, store=store)
    assert not waits
    assert len(github.requests) == 2


# Requests: 0 the release, 1 its assets, 2 the sidecar, 3 the wheel.
DEATHS = [(number, when) for number in range(4) for when in ("before", "after")]
DEATHS += [(2, "half"), (3, "half")]


def command(site: Path, wheel: Path) -> list[str]:
    """Publishing in a process of its own, which a signal can end."""
    script = (
        "import os, sys; from pathlib import Path\n"
        "from wheelbuild.stores.place import open_store\n"
        "from wheelbuild.publish import publish\n"
        "from apex_installer.model.entry import Entry\n"
        "import json\n"
        "wheel = Path(sys.argv[2])\n"
        "entry = Entry.from_json(json.loads(wheel.with_suffix('.json').read_text()), where='')\n"
        f"store = open_store(Path(sys.argv[1]), 'github:{REPOSITORY}', environ=os.environ)\n"
        "publish(wheel, entry, store=store)\n"
    )
    return [sys.executable, "-c", script, str(site), str(wheel)]


@pytest.mark.parametrize(("number", "when"), DEATHS)
def test_killed_at_any_request_and_run_again(
    number: int, when: str, github: FakeGitHub, tmp_path: Path, made: CellWheel
) -> None:
    """SIGKILL when the n-th request arrives, is half read, or is done; before, one wheel stood."""
    site = tmp_path / "site"
    first = write_cell_wheel(tmp_path / "built", cell=SECOND)
    for one in (first, made):
        one.path.with_suffix(".json").write_text(json.dumps(one.entry.to_json()))
    publish(first.path, first.entry, store=make_store(github, site))
    environ = {**os.environ, **github.environ()}
    start = len(github.requests)
    with subprocess.Popen(
        command(site, made.path), env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as running:
        dead = Fault(when, then=lambda: (running.send_signal(signal.SIGKILL), running.wait()))
        github.faults[start + number] = dead
        running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert check_index(site, github) == 1
    github.faults.clear()
    done = subprocess.run(command(site, made.path), env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert check_index(site, github) == 2
    assert len(github.names("wheels-1")) == 4


def test_the_token_is_said_nowhere(
    store: ReleasesStore, github: FakeGitHub, made: CellWheel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    github.faults.update({n: Fault("before", status=500) for n in range(99)})
    github.faults[0].body = {"message": f"what is {TOKEN}?"}
    with pytest.raises(PublishError) as got:
        publish(made.path, made.entry, store=store)
    github.faults.clear()
    publish(made.path, made.entry, store=store)
    assert TOKEN not in f"{caplog.text}{got.value!r}{store._releases.api.repository!r}"
    written = [path.read_text() for path in store.directory.rglob("*.*") if path.is_file()]
    assert written
    assert not any(TOKEN in text for text in written)
    fetch_sha256(store.entries()[0].url)
    assert not github.strangers


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize("form", ["html", "json"])
def test_clients_read_the_name_from_the_assets_address(
    client: str,
    form: str,
    store: ReleasesStore,
    made: CellWheel,
    tmp_path: Path,
    requires_tool: Callable[[str], str],
) -> None:
    """Served as Pages does, HTML alone, and by a server that knows JSON too."""
    publish(made.path, made.entry, store=store)
    if form == "html":
        for page in store.directory.rglob("simple/**/index.json"):
            page.unlink()
    shelf = [write_wheel(tmp_path / "pypi", "torch", "2.11.0")]
    shelf += [write_wheel(tmp_path / "pypi", "packaging", "25.0")]
    write_simple_index(tmp_path / "pypi", shelf)
    (tmp_path / "home").mkdir()
    target = make_target(tmp_path / "venv", shelf[:1])
    with IndexServer(tmp_path / "pypi") as pypi, IndexServer(store.directory) as pages:
        clients = Clients(tmp_path / "home", f"{pypi.url}simple/", requires_tool("uv"))
        pin = f"apex=={made.entry.version}"
        words = ("install", pin, "--extra-index-url", f"{pages.url}cu130/torch2.11/simple/")
        if client == "pip":
            ran = clients.pip(*words, target=target)
        else:
            ran = clients.uv("pip", *words, "--python", target.python)
    assert ran.code == 0, ran
    assert target.versions()["apex"] == made.entry.version


class TestDecide:
    wanted = Content.of_bytes("a.whl", b"content")

    def asset(self, **changes: object) -> Asset:
        values = {"number": 1, "name": "a.whl", "size": 7, "sha256": self.wanted.sha256}
        return Asset(**{**values, "whole": True, **changes})

    def test_nothing_there(self) -> None:
        assert decide(None, self.wanted, named=True) == "upload"

    @pytest.mark.parametrize("whole", [True, False])
    def test_left_over(self, whole: bool) -> None:
        assert decide(self.asset(whole=whole), self.wanted, named=False) == "replace"

    def test_named(self) -> None:
        assert decide(self.asset(), self.wanted, named=True) == "keep"
        assert decide(self.asset(sha256=None), self.wanted, named=True) == "keep"
        assert decide(self.asset(whole=False), self.wanted, named=True) == "replace"

    @pytest.mark.parametrize("change", [{"size": 6}, {"sha256": 64 * "0"}])
    def test_named_and_something_else(self, change: dict[str, object]) -> None:
        with pytest.raises(PublishError, match="nothing is overwritten"):
            decide(self.asset(**change), self.wanted, named=True)
