"""One page, a plain wheel and its variants: who takes which. Real uv, real pip, and variantlib."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from support.clients import Clients, Ran, Target, make_target
from support.index_wheels import CellWheel, cell_version, write_cell_wheel
from wheelbuild.publish import publish
from wheelbuild.serve import IndexServer
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.variants import FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
CELL = f"{PYTHON}-torch2.11-cu130-linux_x86_64"
PIN = f"apex=={cell_version(CELL)}"
LABELS = ("sm80", "sm86", "sm90")
PAGE = "cu130/torch2.11/simple/apex/index.json"
PREVIEW = ("--preview-features", "wheel-variants")
VARIANTLIB = "variantlib==0.2.2"


@dataclass(frozen=True)
class Shop:
    """An index with a plain wheel and three variants, and who takes from it."""

    server: IndexServer
    clients: Clients
    folder: Path

    @property
    def page(self) -> str:
        return f"{self.server.url}cu130/torch2.11/simple/"

    def publish(self, label: str, **made: object) -> CellWheel:
        wheel = write_cell_wheel(self.folder / "built", cell=CELL, variant=label, **made)
        publish(wheel.path, wheel.entry, store=DirectoryStore(self.server.directory))
        return wheel

    def target(self, name: str = "venv") -> Target:
        return make_target(self.folder / name)

    def by_uv(self, target: Target, *words: str, gpu: str = "") -> Ran:
        """As if the machine had this GPU and a driver of CUDA 13.0; none: as it is."""
        forced = {
            "NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION": "13.0",
            "NV_VARIANT_PROVIDER_FORCE_SM_ARCH": gpu,
        }
        install = ("pip", "install", PIN, "--no-deps", "--index", self.page, *words)
        return self.clients.uv(*install, "--python", target.python, **(forced if gpu else {}))


@pytest.fixture
def shop(tmp_path: Path, requires_tool: Callable[[str], str]) -> Iterator[Shop]:
    for name in ("farm", "home", "empty"):
        (tmp_path / name).mkdir()
    uv = requires_tool("uv")
    with IndexServer(tmp_path / "farm") as server, IndexServer(tmp_path / "empty") as nothing:
        shop = Shop(server, Clients(tmp_path / "home", f"{nothing.url}simple/", uv), tmp_path)
        for label in ("", *LABELS):
            shop.publish(label)
        yield shop


def taken(target: Target) -> str:
    """The label of what is installed there, `plain` for the plain wheel."""
    (inputs,) = target.site_packages.glob("apex/inputs.py")
    words = inputs.read_text().split()[1:]  # `# first sm90`
    return words[1] if len(words) > 1 else "plain"


@pytest.mark.parametrize(
    ("gpu", "label"),
    [
        ("8.0", "sm80"),
        ("8.6", "sm86"),
        ("8.9", "sm86"),
        ("9.0", "sm90"),
        ("7.5", "plain"),
        ("12.0", "plain"),
        ("", "plain"),
    ],
)
def test_uv_with_its_preview_takes_the_variant_of_the_gpu(shop: Shop, gpu: str, label: str) -> None:
    target = shop.target()
    ran = shop.by_uv(target, *PREVIEW, gpu=gpu)
    assert ran.code == 0, ran
    assert taken(target) == label


def test_stable_uv_and_pip_take_the_plain_wheel(shop: Shop) -> None:
    ours, theirs = shop.target("uv"), shop.target("pip")
    ran = shop.by_uv(ours, gpu="9.0")
    assert (ran.code, taken(ours)) == (0, "plain"), ran
    words = ("install", PIN, "--no-deps", "--index-url", shop.page)
    ran = shop.clients.pip(*words, target=theirs)
    assert (ran.code, taken(theirs)) == (0, "plain"), ran


def test_a_newer_plain_wheel_is_not_passed_over_for_an_older_variant(shop: Shop) -> None:
    shop.publish("", build_tag=2, inputs="second")
    target = shop.target()
    ran = shop.by_uv(target, *PREVIEW, gpu="9.0")
    assert (ran.code, taken(target)) == (0, "plain"), ran
    assert "second" in (target.site_packages / "apex/inputs.py").read_text()


def test_a_label_that_comes_later_is_seen_through_a_clients_cache(shop: Shop) -> None:
    assert shop.by_uv(shop.target("before"), *PREVIEW, gpu="12.0").code == 0
    shop.publish("sm120")
    target = shop.target("after")
    ran = shop.by_uv(target, *PREVIEW, "--refresh-package", "apex", gpu="12.0")
    assert (ran.code, taken(target)) == (0, "sm120"), ran


def test_variantlib_describes_them_as_we_do(shop: Shop, tmp_path: Path) -> None:
    venv, wheels = tmp_path / "variantlib", tmp_path / "wheels"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", VARIANTLIB]
    if subprocess.run(pip, check=False, capture_output=True).returncode:
        pytest.skip(f"no {VARIANTLIB}")
    wheels.mkdir()
    for path in (tmp_path / "farm/files").glob("*/*.whl"):
        (wheels / path.name).symlink_to(path)
    command = [venv / "bin/variantlib", "generate-index-json", "--directory", wheels]
    subprocess.run(command, check=True, capture_output=True)
    (theirs,) = wheels.glob("*-variants.json")
    page = json.loads((shop.server.directory / PAGE).read_bytes())
    (digest,) = [one["hashes"]["sha256"] for one in page["files"] if one["filename"] == theirs.name]
    ours = shop.server.directory / f"files/{digest}/{theirs.name}"
    said, wanted = json.loads(ours.read_bytes()), json.loads(theirs.read_bytes())
    assert {**said, "$schema": ""} == {**wanted, "$schema": ""}
    assert sorted(said["variants"]) == sorted(LABELS)


def test_what_is_installed_says_which_variant_it_is(shop: Shop) -> None:
    target = shop.target()
    shop.by_uv(target, *PREVIEW, gpu="8.6")
    (described,) = target.site_packages.glob(f"*.dist-info/{FILE}")
    assert list(json.loads(described.read_bytes())["variants"]) == ["sm86"]
    (wheel,) = shop.folder.glob("built/sm86/*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"{described.parent.name}/{FILE}") == described.read_bytes()
