"""Pins: every fault of a file at once, and which parts are needed where."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer import data
from apex_installer.errors import ToolkitError, UsageError
from apex_installer.make.compose import link_bundled_libraries
from apex_installer.make.pins import Part, parse_pins
from apex_installer.make.provide import choose_ways, lacking_headers

if TYPE_CHECKING:
    from pathlib import Path

CARRIED = parse_pins(data.read("toolkits.json") or "", where="toolkits.json")


def carried() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(data.read("toolkits.json") or "")
    return loaded


def test_what_is_carried_stays_below_its_bytes() -> None:
    limits = {"12.1": 60, "12.4": 60, "12.6": 60, "12.8": 90, "12.9": 90, "13.0": 110, "13.2": 120}
    for cuda, limit in limits.items():
        pinned = CARRIED.get(cuda)
        assert pinned is not None
        assert pinned.size <= limit * 1e6
        assert {part.holds for part in pinned.headers} >= {"cublas_v2.h", "cusparse.h"}
    assert {part.module for part in CARRIED.build_requirements} == {"setuptools", "packaging"}


def test_every_fault_of_a_file_is_told_at_once() -> None:
    pins = carried()
    one = pins["toolkits"]["12.1"]
    one["how"], one["base_url"] = "magic", "https://host"
    one["parts"][0]["sha256"] = "0" * 63
    one["parts"][1]["file"] = "../../etc/passwd.whl"
    del one["parts"][2]["size"]
    one["parts"][3]["size"] = 0
    with pytest.raises(UsageError) as told:
        parse_pins(json.dumps(pins), where="--toolkits x")
    for fault in (
        "12.1: how is 'magic'",
        "base_url is 'https://host', not a URL that ends in /",
        "cuda_nvcc: sha256 is not 64 hex digits",
        "cuda_cudart: file '../../etc/passwd.whl'",
        "cuda_cccl: lacks size",
        "cuda_profiler_api: size is not a number of bytes",
    ):
        assert fault in str(told.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1}'])
def test_what_is_no_pins_file_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--toolkits x: "):
        parse_pins(text, where="--toolkits x")


def test_what_is_asked_for_by_toolkit() -> None:
    archives, wheels = CARRIED.get("12.1"), CARRIED.get("13.0")
    assert choose_ways("auto", archives, cuda="12.1").ways == ("there", "archives")
    assert choose_ways("auto", wheels, cuda="13.0").ways == ("there", "wheels")
    assert choose_ways("auto", None, cuda="9.2").ways == ("there",)
    assert choose_ways("archive", archives, cuda="12.1").ways == ("archives",)
    assert choose_ways("pypi", wheels, cuda="13.0").ways == ("wheels",)
    assert choose_ways("apt", archives, cuda="12.1").ways == ("apt",)
    assert choose_ways("/opt/cuda", archives, cuda="12.1").home == "/opt/cuda"
    for asked, pinned in (("pypi", archives), ("archive", wheels), ("pypi", None)):
        with pytest.raises(ToolkitError, match=f"--toolkit {asked}: CUDA 1 "):
            choose_ways(asked, pinned, cuda="1")


def test_only_headers_that_are_nowhere_are_fetched(tmp_path: Path) -> None:
    parts = [
        Part(name, "1", f"{name}.whl", "0" * 64, 1, holds=f"{name}.h") for name in ("blas", "rand")
    ]
    (tmp_path / "include").mkdir()
    (tmp_path / "include/blas.h").touch()
    assert lacking_headers(parts, [str(tmp_path)]) == (parts[1],)
    assert lacking_headers(parts, []) == tuple(parts)


def test_libraries_inside_torchs_own_wheel_are_named_as_the_linker_asks(tmp_path: Path) -> None:
    library = tmp_path / "torch/lib"
    library.mkdir(parents=True)
    for name in ("libcudart-d0da41ae.so.11.0", "libcublas.so.11", "libcublasLt.so.11", "libc10.so"):
        (library / name).touch()
    (folder,) = link_bundled_libraries(str(tmp_path / "torch"), into=str(tmp_path / "into"))
    linked = {path.name: path.readlink().name for path in (tmp_path / "into/lib64").iterdir()}
    assert folder == str(tmp_path / "into")
    assert linked == {
        "libcudart.so": "libcudart-d0da41ae.so.11.0",
        "libcublas.so": "libcublas.so.11",
        "libcublasLt.so": "libcublasLt.so.11",
    }
    assert link_bundled_libraries(str(tmp_path), into=str(tmp_path / "none")) == ()
