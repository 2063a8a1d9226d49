"""Stamping a wheel with a real module, and the entry that is made of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from support.jobs import make_request
from support.tiny_module import compile_tiny, make_tiny_wheel
from wheelbuild.errors import StampError
from wheelbuild.index.admission import check_wheel
from wheelbuild.repair import repair_wheel
from wheelbuild.stamp import entry_of, read_build_record, stamp_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.compile]

TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
CELL = f"{TAG}-torch2.11-cu130-linux_x86_64"


@pytest.fixture(scope="module")
def repaired(requires_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    module = compile_tiny(folder / "build", requires_tool("gcc"))
    return repair_wheel(make_tiny_wheel(folder, module), out=folder / "repaired")


def test_the_entry_says_what_the_wheel_holds(repaired: Path, tmp_path: Path) -> None:
    request = make_request(cell=CELL, architectures="")
    stamped = stamp_wheel(repaired, request=request, out=tmp_path)
    entry = entry_of(stamped)
    assert check_wheel(stamped, entry)  # the index would take it
    assert entry.module_names == ("tiny_c",)
    assert not entry.modules[0].has_device_code
    assert "libc.so.6" in entry.modules[0].needed
    assert entry.floors["GLIBC"]
    assert entry.requires == request.requires
    assert entry.key == read_build_record(stamped).key
    assert entry.tests == {"gpu": "untested"}


def test_stamping_again_gives_the_same_bytes(repaired: Path, tmp_path: Path) -> None:
    request = make_request(cell=CELL)
    first = stamp_wheel(repaired, request=request, out=tmp_path / "1")
    assert stamp_wheel(repaired, request=request, out=tmp_path / "2").read_bytes() == (
        first.read_bytes()
    )
    assert stamp_wheel(first, request=request, out=tmp_path / "3").read_bytes() == (
        first.read_bytes()
    )


def test_a_new_version_and_build_tag_rename_wheel_and_dist_info(
    repaired: Path, tmp_path: Path
) -> None:
    version = "0.1+20260708.cu130.torch2.11.norm"
    request = make_request(
        cell=CELL,
        version=version,
        build_tag=2,
        record={**make_request().record, "suffix": "norm"},
    )
    entry = entry_of(stamp_wheel(repaired, request=request, out=tmp_path))
    assert entry.file.startswith(f"apex-{version}-2-{TAG}-")
    assert (entry.version, entry.build_tag, entry.suffix) == (version, 2, "norm")


def test_a_job_that_lacks_a_fact_is_refused(repaired: Path, tmp_path: Path) -> None:
    record = dict(make_request().record)
    del record["torch_git"]
    with pytest.raises(StampError, match="says nothing of 'torch_git'"):
        stamp_wheel(repaired, request=make_request(record=record), out=tmp_path)


def test_an_unstamped_wheel_has_no_entry(repaired: Path) -> None:
    with pytest.raises(Exception, match=r"has no build-record\.json"):
        entry_of(repaired)
