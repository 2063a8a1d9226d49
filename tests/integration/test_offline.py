"""A new pod of the same kind on a volume, without a network: what the cache kept is enough."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from support import fault_server as server
from support.fault_server import FaultServer
from support.mounts import Mounts
from support.tiny_pod import INDEX_PATH, TAG, Ended, Kit, TinyPod, make_kit
from support.wheels import write_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.wheels import MadeWheel

pytestmark = pytest.mark.integration

DOCUMENT = f"/{INDEX_PATH}/install-{TAG}.json"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("kit"))


@dataclass
class Volume:
    """A cache, the index that filled it, and pods."""

    root: Path
    kit: Kit
    index: FaultServer
    url: str
    wheel: MadeWheel

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def pod(self, name: str) -> TinyPod:
        return TinyPod(self.root / name, self.kit)

    def words(self, *words: str) -> list[str]:
        common = ["--gpu", "9.0", "--cache-dir", str(self.cache)]
        return [*common, "--index-url", self.url, *words]

    def run(self, name: str, *words: str) -> Ended:
        return self.pod(name).run(*self.words(*words))

    def answer(self, handler: server.Handler) -> None:
        """To whoever asks for the document."""
        self.index.handlers[DOCUMENT] = handler

    def kept(self) -> Path:
        (path,) = (self.cache / "documents").glob("*.json")
        return path


@pytest.fixture
def volume(tmp_path: Path, kit: Kit) -> Iterator[Volume]:
    """A first pod has been there, with a network."""
    pod = TinyPod(tmp_path / "first", kit)
    wheel = pod.wheel()
    document = pod.offer(wheel).read_bytes()
    file = f"/files/{wheel.entry.sha256}/{wheel.entry.file}"
    handlers = {
        DOCUMENT: server.answer(document),
        file: server.answer(wheel.path.read_bytes()),
    }
    with FaultServer(handlers) as index:
        made = Volume(tmp_path, kit, index, f"{index.url}/", wheel)
        ended = pod.run(*made.words())
        assert (ended.code, ended.report["outcome"]) == (0, "wheel")
        yield made


def assert_from_the_cache(ended: Ended) -> None:
    assert (ended.code, ended.report["outcome"]) == (0, "wheel"), ended.err
    assert ended.report["bytes"]["downloaded"] == 0
    assert any("its document of 20" in line for line in ended.report["findings"])


def test_an_index_that_has_gone(volume: Volume) -> None:
    volume.index.__exit__()  # and its port with it
    assert_from_the_cache(volume.run("second"))


def test_no_network_at_all(
    volume: Volume, requires_tool: Callable[[str], str], tmp_path: Path
) -> None:
    unshare = requires_tool("unshare")
    Mounts(unshare, tmp_path).run("true", tried="true")
    pod = volume.pod("second")
    command = [unshare, "-r", "-n", str(pod.python), str(volume.kit.zipapp), *volume.words()]
    pod.python = pod.root / "python-without-network"
    pod.python.write_text("#!/bin/sh\nexec " + " ".join(command[:4]) + ' "$@"\n')
    pod.python.chmod(0o755)
    ended = pod.run(*volume.words("--python", command[3]))
    assert_from_the_cache(ended)
    assert volume.index.requests.count(DOCUMENT) == 1


def test_offline_asks_nobody(volume: Volume) -> None:
    asked = len(volume.index.requests)
    assert_from_the_cache(volume.run("second", "--offline"))
    assert len(volume.index.requests) == asked


@pytest.mark.parametrize("handler", [server.silent(), server.status("503 Busy")])
def test_an_index_that_does_not_answer(volume: Volume, handler: server.Handler) -> None:
    volume.answer(handler)
    ended = volume.run("second", "--deadline", "8")
    assert_from_the_cache(ended)
    assert ended.report["seconds"]["total"] < 8


def test_what_a_reachable_index_says_is_not_replaced(volume: Volume) -> None:
    volume.answer(server.status("404 Not Found"))
    ended = volume.run("second")
    assert (ended.code, ended.causes) == (3, ["no-wheel"])
    volume.answer(server.answer(b"<html>sign in</html>"))
    ended = volume.run("third")
    assert (ended.code, ended.causes) == (3, ["trust"])


def test_a_wheel_that_is_not_in_the_cache_is_refused_with_that_reason(volume: Volume) -> None:
    newer = volume.pod("other").wheel("newer", build_tag=2)
    path = write_document(volume.root / "newer", [volume.wheel, newer], cell=newer.entry.cell)
    volume.kept().write_bytes(path.read_bytes())
    ended = volume.run("second", "--offline")
    assert_from_the_cache(ended)
    (refusal,) = ended.report["refusals"]
    assert refusal == {
        "file": newer.entry.file,
        "reason": "is not in the cache, and no network",
    }


def test_bad_bytes_in_the_cache_are_not_installed(volume: Volume) -> None:
    (wheel,) = (volume.cache / "wheels").glob("*/*.whl")
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    ended = volume.run("second", "--offline")
    assert (ended.code, ended.report["outcome"]) == (3, "none")
    assert "is not in the cache, and no network" in ended.err


def test_where_nothing_at_hand_fits_the_index_gets_the_rest_of_the_time(volume: Volume) -> None:
    shutil.rmtree(volume.cache / "wheels")
    busy, document = server.status("503 Busy"), volume.index.handlers[DOCUMENT]
    volume.answer(server.then(busy, busy, busy, document))
    ended = volume.run("second")
    assert (ended.code, ended.report["outcome"]) == (0, "wheel"), ended.err
    assert ended.report["bytes"]["downloaded"] == volume.wheel.entry.size


def test_offline_without_a_kept_document_says_what_to_do(volume: Volume) -> None:
    volume.kept().unlink()
    ended = volume.run("second", "--offline")
    assert (ended.code, ended.causes) == (3, ["download"])
    assert "start once with a network" in ended.line


def test_a_dry_run_keeps_nothing(volume: Volume) -> None:
    before = volume.kept().read_bytes()
    volume.answer(server.answer(json.dumps({**json.loads(before), "more": 1}).encode()))
    assert volume.run("second", "--dry-run").code == 0
    assert volume.kept().read_bytes() == before
    assert volume.run("second-again").code == 0
    assert volume.kept().read_bytes() != before
