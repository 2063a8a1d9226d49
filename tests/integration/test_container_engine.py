"""cibuildwheel for real: two Pythons of the small package, in an image that nobody had to pull."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.machine import SMALL
from support.skeleton import Skeleton, skeleton_image
from support.torch_environments import further_environment
from wheelbuild.clients import Clients
from wheelbuild.data import load_data
from wheelbuild.engines.environment import read_environment
from wheelbuild.publish import reindex
from wheelbuild.serve import IndexServer
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.torch_environments import TorchEnvironment

pytestmark = [pytest.mark.integration, pytest.mark.compile]

FIRST = f"cp{sys.version_info[0]}{sys.version_info[1]}"
FURTHER = "3.12" if FIRST != "cp312" else "3.11"
TAGS = (FIRST, f"cp{FURTHER.replace('.', '')}")
POLICY = f"manylinux_{platform.libc_ver()[1].replace('.', '_')}_{platform.machine()}"
"""What this machine's own C library allows."""


@dataclass(frozen=True)
class Farm:
    folder: Path
    image: Skeleton
    pythons: dict[str, Path]
    podman: str

    def command(self, tag: str, *words: str, arch: str = "9.0") -> list[str]:
        command = [sys.executable, "-m", "wheelbuild", "--data", str(SMALL), "--json"]
        command += ["--cache", str(self.folder / "cache"), "run", f"{tag}-torch2.11-cu130"]
        command += ["--python", str(self.pythons[tag]), "--arch", arch]
        command += ["--index", str(self.folder / "index")]
        return [*command, "--engine", "container", "--image", self.image.name, *words]

    def run(self, tag: str, *words: str, code: int = 0, arch: str = "9.0") -> dict[str, Any]:
        ran = subprocess.run(
            self.command(tag, *words, arch=arch),
            env=self.image.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, f"{ran.stdout}\n{ran.stderr}"
        (row,) = json.loads(ran.stdout)
        found: dict[str, Any] = row
        return found

    def work(self, tag: str) -> Path:
        return self.folder / f"cache/work/{tag}-torch2.11-cu130-linux_x86_64.sm90/job/work"

    def account(self, tag: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.work(tag) / "build.json").read_text())
        return found

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder / "index")

    def containers(self) -> list[str]:
        words = [self.podman, "ps", "-aq"]
        env = dict(self.image.environ)
        return subprocess.run(words, env=env, capture_output=True, check=True).stdout.split()


@pytest.fixture(scope="module")
def farm(
    torch_211: TorchEnvironment,
    cuda_130: Path,
    cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
    requires_tool: Callable[[str], str],
    requires_python: Callable[[str], str],
) -> Iterator[Farm]:
    """With both Pythons' wheels in its index."""
    podman, further = requires_tool("podman"), requires_python(FURTHER)
    requires_tool("runc")
    folder = tmp_path_factory.mktemp("container")
    bases = {TAGS[0]: sys.executable, TAGS[1]: further}
    environment = further_environment(torch_211, minor=FURTHER, python=further, cache=cache)
    pythons = {TAGS[0]: torch_211.build_python, TAGS[1]: environment}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_HOME", str(cuda_130))
        with skeleton_image(folder / "image", podman=podman, pythons=bases) as image:
            farm = Farm(folder, image, pythons, podman)
            for tag in TAGS:
                assert farm.run(tag, "--policy", POLICY)["state"] == "published"
            yield farm


def test_both_pythons_wheels_are_of_the_policy(farm: Farm) -> None:
    assert sorted(entry.file.rpartition("sm90-")[2] for entry in farm.store.entries()) == sorted(
        f"{tag}-{tag}-{POLICY}.whl" for tag in TAGS
    )


@pytest.mark.parametrize("tag", TAGS)
def test_they_were_built_in_the_container_by_its_python(farm: Farm, tag: str) -> None:
    account = farm.account(tag)
    assert account["interpreter"]["tag"] == tag
    assert "python -m build /project" in (farm.work(tag) / "engine.log").read_text()
    assert not (farm.work(tag) / "error.txt").exists()
    request = json.loads((farm.work(tag).parent.with_name("container") / "job.json").read_text())
    assert request["interpreter"] == f"/opt/python/{tag}-{tag}/bin/python"


def test_the_further_python_compiled_no_device_code(farm: Farm) -> None:
    kinds = [{step["kind"] for step in farm.account(tag)["timeline"]} for tag in TAGS]
    assert kinds == [{"cpp", "cuda", "link"}, {"cpp", "link"}]


@pytest.mark.parametrize("tag", TAGS)
def test_apex_install_takes_it(farm: Farm, tag: str, tmp_path: Path) -> None:
    store = DirectoryStore(shutil.copytree(farm.folder / "index", tmp_path / "index"))
    for entry in store.entries():
        if not entry.cell.startswith(tag):  # the client that is tried here is told of one wheel
            (store.directory / "entries" / f"{entry.sha256}.json").unlink()
    reindex(store=store)
    with IndexServer(store.directory) as server:
        installed = Clients(
            environment=read_environment(farm.pythons[tag]),
            data=load_data(SMALL),
            store=store,
            url=server.url,
            folder=tmp_path,
            cache=tmp_path,
        ).apex_install()
    assert installed.version.endswith(".cu130.torch2.11.sm90")


def test_what_the_matrix_asks_for_is_more_than_this_machine_can_do(farm: Farm) -> None:
    before = farm.store.entries()
    row = farm.run(TAGS[0], "--force", code=3)
    assert (row["state"], row["step"]) == ("failed", "repair")
    assert 'to "manylinux_2_28_x86_64" ABI because of the presence of too-recent' in row["said"]
    assert farm.store.entries() == before


def test_a_build_that_fails_says_why_and_leaves_no_container(farm: Farm) -> None:
    row = farm.run(TAGS[0], "--force", "--time-limit", "1", code=3)
    assert "the time limit ran out" in row["said"]
    assert farm.containers() == []


def test_the_container_of_a_killed_farm_is_removed_by_the_next_run(farm: Farm) -> None:
    command = farm.command(TAGS[0], "--policy", POLICY, arch="8.0")
    process = subprocess.Popen(
        command, env=farm.image.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with process:
        ends = time.monotonic() + 60
        while not farm.containers() and time.monotonic() < ends:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    row = farm.run(TAGS[0], "--time-limit", "1", code=3, arch="8.0")
    assert "the time limit ran out" in row["said"]
    assert farm.containers() == []
