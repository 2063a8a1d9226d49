"""Every step of the farm, on the small package of our own, with the real compiler and torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.machine import REPOSITORY
from wheelbuild.clients import Clients
from wheelbuild.data import load_data
from wheelbuild.engines.environment import read_environment
from wheelbuild.serve import IndexServer
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.wheelfile import find_modules, pack_wheel, unpack_wheel

if TYPE_CHECKING:
    from support.torch_environments import TorchEnvironment

pytestmark = [pytest.mark.integration, pytest.mark.compile]

SMALL = REPOSITORY / "tests/data/recipes/small"
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
CELL = f"{TAG}-torch2.11-cu130-linux_x86_64"


@dataclass(frozen=True)
class Farm:
    """One farm in a folder of its own."""

    folder: Path
    python: Path
    cuda_home: Path
    data: Path = SMALL

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        common = ["--data", str(self.data), "--cache", str(self.folder / "cache")]
        command = [sys.executable, "-m", "wheelbuild", *common, *words]
        environ = {
            **os.environ,
            "CUDA_HOME": str(self.cuda_home),
            "WHEELBUILD_INDEX": str(self.folder / "index"),
        }
        ran = subprocess.run(
            command, capture_output=True, text=True, env=environ, cwd=self.folder, check=False
        )
        assert ran.returncode == code, f"{command}\n{ran.stdout}\n{ran.stderr}"
        return ran

    def build(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        python = ["--python", str(self.python)]
        return self.run("build", CELL, *python, "--arch", "9.0", *words, code=code)

    @property
    def account(self) -> dict[str, object]:
        """What the last build did."""
        path = self.folder / f"cache/work/{CELL}.sm90/job/work/build.json"
        data: dict[str, object] = json.loads(path.read_text())
        return data

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder / "index")


@pytest.fixture(scope="module")
def farm(
    torch_211: TorchEnvironment, cuda_130: Path, tmp_path_factory: pytest.TempPathFactory
) -> Farm:
    """With one wheel in its index, taken there step by step."""
    farm = Farm(tmp_path_factory.mktemp("farm"), torch_211.build_python, cuda_130)
    built = farm.build().stdout.strip()
    repaired = farm.run("repair", built).stdout.strip()
    stamped = farm.run("stamp", repaired).stdout.strip()
    farm.run("test", stamped)
    farm.run("publish", stamped)
    return farm


def test_the_index_holds_what_was_asked_for(farm: Farm) -> None:
    (entry,) = farm.store.entries()
    assert (entry.cell, entry.suffix, entry.build_tag) == (CELL, "sm90", 0)
    assert entry.module_names == ("apex_C", "fused_layer_norm_cuda")
    assert {module.name: module.machine_code for module in entry.modules} == {
        "apex_C": (),
        "fused_layer_norm_cuda": ("9.0",),
    }
    assert "libcudart.so.13" in entry.modules[1].needed
    assert entry.tests["gpu"] == "untested"
    assert "torch==2.11.*" in entry.requires


def test_nothing_is_to_be_done_twice(farm: Farm) -> None:
    words = [CELL, "--arch", "9.0"]
    assert json.loads(farm.run("plan", *words, "--json").stdout) == {"include": []}
    (row,) = json.loads(farm.run("run", *words, "--json").stdout)
    assert row["state"] == "fresh"


def test_building_again_starts_no_compiler_and_gives_the_same_wheel(farm: Farm) -> None:
    wheel = Path(farm.build().stdout.strip())
    before = wheel.read_bytes()
    assert Path(farm.build().stdout.strip()).read_bytes() == before
    assert farm.account["timeline"] == []


def test_a_forced_run_takes_the_next_build_tag(farm: Farm, tmp_path: Path) -> None:
    copy = Farm(tmp_path / "farm", farm.python, farm.cuda_home)
    shutil.copytree(farm.folder, copy.folder, symlinks=True)
    words = ["run", CELL, "--arch", "9.0", "--python", str(farm.python), "--force", "--json"]
    (row,) = json.loads(copy.run(*words).stdout)
    assert row["state"] == "published"
    assert "+20261124.cu130.torch2.11.sm90-2-" in row["said"]
    assert sorted(entry.build_tag for entry in copy.store.entries()) == [0, 2]


@pytest.mark.parametrize("client", ["apex_install", "pip", "uv"])
def test_three_clients_install_it(farm: Farm, client: str, tmp_path: Path) -> None:
    with IndexServer(farm.store.directory) as server:
        clients = Clients(
            environment=read_environment(farm.python),
            data=load_data(SMALL),
            store=farm.store,
            url=server.url,
            folder=tmp_path,
            cache=tmp_path,
        )
        installed = getattr(clients, client)()
    (entry,) = farm.store.entries()
    assert installed.version == entry.version


def test_a_source_that_does_not_compile_ends_with_its_first_error(
    farm: Farm, tmp_path: Path
) -> None:
    broken = Farm(tmp_path / "farm", farm.python, farm.cuda_home, tmp_path / "data")
    broken.folder.mkdir()
    shutil.copytree(SMALL, broken.data)
    source = next(broken.data.rglob("flatten.cpp"))
    source.write_text(source.read_text() + "\nint broken = no_such_name;\n")
    said = broken.build("--only", "apex_C", code=3).stderr
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"wheelbuild: {CELL}: compile: ")
    assert "flatten.cpp:" in last
    assert "no_such_name" in last


def test_an_interpreter_with_another_torch_is_refused(farm: Farm) -> None:
    words = ["build", f"{TAG}-torch2.6-cu124", "--python", str(farm.python)]
    said = farm.run(*words, code=3).stderr
    assert "holds torch 2.11.0+cu130, not 2.6.0+cu124" in said


def test_a_wheel_that_lost_a_module_is_refused_by_its_test(farm: Farm, tmp_path: Path) -> None:
    (stamped,) = (farm.folder / f"cache/work/{CELL}.sm90/stamped").glob("*.whl")
    unpack_wheel(stamped, into=tmp_path / "files")
    find_modules(tmp_path / "files")["apex_C"].unlink()
    wheel = pack_wheel(tmp_path / "files", path=tmp_path / stamped.name)
    said = farm.run("test", str(wheel), "--python", str(farm.python), code=3).stderr
    assert "apex_C" in said


def test_variants_lie_beside_the_plain_wheel_in_one_run(farm: Farm, tmp_path: Path) -> None:
    several = Farm(tmp_path / "farm", farm.python, farm.cuda_home, tmp_path / "data")
    shutil.copytree(farm.folder, several.folder)
    shutil.copytree(SMALL, several.data)
    matrix = several.data / "matrix.toml"
    matrix.write_text(matrix.read_text().replace("[[cells]]\n", "[[cells]]\nvariants = true\n"))
    words = ["--only", "fused_layer_norm_cuda", "--arch", "8.0;9.0+PTX"]
    run = ["run", CELL, *words, "--python", str(farm.python), "--json"]
    (row,) = json.loads(several.run(*run).stdout)
    assert row["state"] == "published"
    assert row["said"].endswith(".whl and sm80, sm90")
    made = [entry for entry in several.store.entries() if entry.suffix == "norm"]
    held = {entry.variant: entry.modules[0].architectures.text for entry in made}
    assert held == {"": "8.0;9.0+PTX", "sm80": "8.0", "sm90": "9.0"}
    sizes = {entry.variant: entry.size for entry in made}
    assert max(sizes["sm80"], sizes["sm90"]) < sizes[""]
    (again,) = json.loads(several.run(*run).stdout)
    assert again["state"] == "fresh"
