"""Real auditwheel, strip and patchelf on a real module."""

from __future__ import annotations

import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from support.tiny_module import DIST_INFO, compile_tiny, make_tiny_wheel
from wheelbuild.errors import RepairError
from wheelbuild.repair import read_excludes, repair_wheel
from wheelbuild.wheelfile import WheelName, find_modules, unpack_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.compile]


@pytest.fixture(scope="module")
def cc(requires_tool: Callable[[str], str]) -> str:
    return requires_tool("gcc")


@pytest.fixture(scope="module")
def wheel(cc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return make_tiny_wheel(folder, compile_tiny(folder / "build", cc))


@pytest.fixture(scope="module")
def repaired(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repair_wheel(wheel, out=tmp_path_factory.mktemp("repaired"))


def read_elf(wheel: Path, into: Path, *words: str) -> str:
    unpack_wheel(wheel, into=into)
    module = find_modules(into)["tiny_c"]
    return subprocess.run(
        ["readelf", "-W", *words, str(module)], capture_output=True, text=True, check=True
    ).stdout


def test_runpath_and_symbols_go(wheel: Path, repaired: Path, tmp_path: Path) -> None:
    before = read_elf(wheel, tmp_path / "before", "-d", "-S")
    after = read_elf(repaired, tmp_path / "after", "-d", "-S")
    for mark in ("RUNPATH", ".symtab", ".debug_info"):
        assert mark in before
        assert mark not in after


def test_the_name_claims_what_auditwheel_finds(repaired: Path) -> None:
    platform = WheelName.parse(repaired.name).platform
    assert "manylinux" in platform
    assert "linux_x86_64" not in platform.split(".")


def test_the_licence_is_kept_and_no_directory_is_a_member(repaired: Path) -> None:
    with zipfile.ZipFile(repaired) as archive:
        names = archive.namelist()
    assert f"{DIST_INFO}/licenses/LICENSE" in names
    assert not [name for name in names if name.endswith("/")]


def test_repairing_again_gives_the_same_bytes(wheel: Path, repaired: Path, tmp_path: Path) -> None:
    assert repair_wheel(wheel, out=tmp_path).read_bytes() == repaired.read_bytes()


def test_a_wheel_without_a_licence_is_refused(cc: str, tmp_path: Path) -> None:
    module = compile_tiny(tmp_path / "build", cc)
    bare = make_tiny_wheel(tmp_path, module, licence=False)
    with pytest.raises(RepairError, match="licence"):
        repair_wheel(bare, out=tmp_path / "out")


def test_a_library_of_torch_or_cuda_is_never_carried(cc: str, tmp_path: Path) -> None:
    module = compile_tiny(tmp_path / "build", cc, library="torch_python")
    repaired = repair_wheel(make_tiny_wheel(tmp_path, module), out=tmp_path / "out")
    assert "[libtorch_python.so]" in read_elf(repaired, tmp_path / "files", "-d")
    assert not list((tmp_path / "files").glob("*.libs"))


def test_a_library_that_is_nobodys_is_refused(
    cc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = compile_tiny(tmp_path / "build", cc, library="surprise")
    wheel = make_tiny_wheel(tmp_path, module)
    with pytest.raises(RepairError, match=r"libsurprise\.so"):
        repair_wheel(wheel, out=tmp_path / "out")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(module.parent))
    with pytest.raises(RepairError, match=r"needs libsurprise.*repair\.toml"):
        repair_wheel(wheel, out=tmp_path / "out")


def test_a_policy_that_the_wheel_is_not_fit_for_is_refused(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(RepairError, match="manylinux_9_9"):
        repair_wheel(wheel, out=tmp_path, policy="manylinux_9_9_x86_64")


def test_a_policy_is_claimed_alone(wheel: Path, tmp_path: Path) -> None:
    repaired = repair_wheel(wheel, out=tmp_path, policy="manylinux_2_41_x86_64")
    assert WheelName.parse(repaired.name).platform == "manylinux_2_41_x86_64"


def test_no_exclude_is_said_twice() -> None:
    excludes = read_excludes()
    assert len(set(excludes)) == len(excludes)
