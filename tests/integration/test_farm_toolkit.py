"""A machine without the cell's CUDA: the farm takes NVIDIA's archives, as pinned, and compiles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import ToolkitError, TrustError
from support.act import lend_environment
from support.cuda_mirror import cuda_mirror, write_mirrored_toolkits
from support.trivial_package import write_trivial_data
from wheelbuild.cli import main as farm
from wheelbuild.data import load_data
from wheelbuild.engines.toolkit import (
    fetch_wheels,
    find_or_fetch,
    read_nvcc_version,
    toolkit_mounts,
)

if TYPE_CHECKING:
    from apex_installer.make.toolkit import Toolkit
    from support.torch_environments import TorchEnvironment

pytestmark = pytest.mark.integration

TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
CELL = f"{TAG}-torch2.6-cu124-linux_x86_64"


@pytest.fixture
def data(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cells of the trivial package; 12.4's archives lie on a mirror of NVIDIA's layout."""
    folder = write_trivial_data(tmp_path / "data", tag=TAG)
    write_mirrored_toolkits(cuda_mirror(cache), folder / "toolkits.toml")
    for name in ("CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return folder


@pytest.mark.compile
def test_a_cuda_12_cell_is_built_where_there_is_no_nvcc(
    tmp_path: Path, data: Path, torch_26: TorchEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    lend_environment(
        torch_26.build_python.parents[1], cache / f"environments/{TAG}-torch2.6.0+cu124"
    )
    common = ["--data", str(data), "--cache", str(cache)]
    assert farm([*common, "build", CELL, "--index", str(tmp_path / "index")]) == 0
    assert "no CUDA 12.4 here: NVIDIA's archives are taken" in caplog.text
    assert "CUDA 12.4.131 (NVIDIA's archives, completed with torch's headers)" in caplog.text
    left = sorted(path.name for path in (cache / "toolkits").iterdir() if path.is_dir())
    assert left[0].startswith("12.4-for-torch2.6.0+cu124")
    assert left[1].startswith("12.4.1-")


def test_what_is_not_the_pinned_archive_is_not_taken_and_what_was_taken_is_kept(
    tmp_path: Path, data: Path
) -> None:
    pins = data / "toolkits.toml"
    sound = pins.read_text()
    part = load_data(data).toolkits.toolkits[(12, 4)].parts[-1]
    pins.write_text(sound.replace(part.sha256, "0" * 64))
    with pytest.raises(TrustError, match="sha256 is"):
        find_or_fetch("12.4", toolkits=load_data(data).toolkits, folder=tmp_path)
    assert not list(tmp_path.glob("*/bin/nvcc"))
    pins.write_text(sound)
    found = find_or_fetch("12.4", toolkits=load_data(data).toolkits, folder=tmp_path)
    assert read_nvcc_version(found.home) == "12.4.131"
    gone = sound.replace("/redist/", "/nowhere/")
    pins.write_text(gone)
    assert find_or_fetch("12.4", toolkits=load_data(data).toolkits, folder=tmp_path) == found


def test_a_cuda_that_is_neither_here_nor_pinned_names_every_place(
    tmp_path: Path, data: Path
) -> None:
    with pytest.raises(ToolkitError, match=r"equals torch's 10\.2: .*/usr/local/cuda"):
        find_or_fetch("10.2", toolkits=load_data(data).toolkits, folder=tmp_path)


def test_cuda_13_is_made_of_nvidias_wheels(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine without one, whatever this machine has."""

    def find_none(cuda: str, **_: object) -> Toolkit:
        raise ToolkitError(f"no {cuda}")

    monkeypatch.setattr("wheelbuild.engines.toolkit.find_toolkit", find_none)
    toolkits = load_data().toolkits
    parts = fetch_wheels(
        toolkits.toolkits[(13, 0)].parts, into=cache / "toolkits/parts", name="CUDA 13.0"
    )
    (tmp_path / "parts").mkdir()
    for path in parts.values():
        (tmp_path / "parts" / path.name).symlink_to(path)
    found = find_or_fetch("13.0", toolkits=toolkits, folder=tmp_path)
    assert read_nvcc_version(found.home).startswith("13.0.")
    seen = toolkit_mounts(Path(found.home))
    program = (Path(found.home) / "bin/nvcc").resolve()
    assert any(program.is_relative_to(folder) for folder in seen)
