from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.jobs import make_record, make_request
from wheelbuild.errors import StampError, WheelError
from wheelbuild.record import BuildRecord
from wheelbuild.stamp import (
    UNTESTED,
    Stamp,
    read_evidence,
    stamp_metadata,
    stamp_tags,
    write_evidence,
)

if TYPE_CHECKING:
    from pathlib import Path

METADATA = """\
Metadata-Version: 2.4
Name: apex
Version: 0.1
Summary: PyTorch Extensions written by NVIDIA
License-File: LICENSE
Requires-Dist: numpy
Requires-Dist: folded>1;
        python_version > "3"
Provides-Extra: docs

Version: this is the description
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: setuptools (84.2.1)
Root-Is-Purelib: false
Tag: cp311-cp311-linux_x86_64
"""


def make_stamp(build_tag: int = 0, requires_python: str = "") -> Stamp:
    request = make_request(build_tag=build_tag, requires_python=requires_python)
    return Stamp.of(request)


def test_metadata_gets_version_and_requirements_and_keeps_the_rest() -> None:
    assert stamp_metadata(METADATA, stamp=make_stamp()) == (
        "Metadata-Version: 2.4\n"
        "Name: apex\n"
        "Version: 0.1+20260708.cu130.torch2.11\n"
        "Requires-Dist: torch==2.11.*\n"
        "Requires-Dist: packaging>20.6\n"
        "Summary: PyTorch Extensions written by NVIDIA\n"
        "License-File: LICENSE\n"
        "\n"
        "Version: this is the description\n"
    )


def test_metadata_stamped_twice_is_the_same() -> None:
    stamp = make_stamp(requires_python=">=3.11")
    once = stamp_metadata(METADATA, stamp=stamp)
    assert "Requires-Python: >=3.11\n" in once
    assert stamp_metadata(once, stamp=stamp) == once


def test_metadata_without_a_description_ends_with_a_newline() -> None:
    assert stamp_metadata("Name: apex\nVersion: 1\n", stamp=make_stamp()).endswith(">20.6\n")


def test_the_build_tag_is_said_in_wheel() -> None:
    assert "Root-Is-Purelib: false\nBuild: 2\n" in stamp_tags(WHEEL, stamp=make_stamp(2))


def test_no_build_tag_takes_an_old_one_away() -> None:
    tagged = stamp_tags(WHEEL, stamp=make_stamp(2))
    assert stamp_tags(tagged, stamp=make_stamp()) == WHEEL


def test_a_request_that_does_not_pin_torch_is_refused() -> None:
    with pytest.raises(StampError, match=r"without torch==2\.11\.\*"):
        Stamp.of(make_request(requires=("torch>=2.11",)))


def test_a_record_reads_back() -> None:
    record = make_record()
    assert BuildRecord.from_json(record.to_json(), where="x") == record


def test_the_key_changes_with_what_is_built() -> None:
    assert make_record().key != make_record(architectures="8.0").key
    assert make_record().key != make_record(torch_git="2" * 40).key
    assert make_record().key == make_record(gcc="13").key


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a build record"),
        ("{}", "not a build record"),
        (make_record().to_json().replace('"schema": 1', '"schema": 9'), "schema 9"),
        (make_record().to_json().replace("2.11.0+cu130", "2.12.0+cu130"), "key is not that"),
    ],
    ids=["empty", "nothing", "schema", "changed"],
)
def test_a_broken_record_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(WheelError, match=f"x.whl: .*{complaint}"):
        BuildRecord.from_json(text, where="x.whl")


def test_evidence_is_bound_to_the_bytes(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"1")
    assert read_evidence(wheel) == UNTESTED
    write_evidence(wheel, {"gpu": "NVIDIA H200"})
    assert read_evidence(wheel) == {"gpu": "NVIDIA H200"}
    wheel.write_bytes(b"2")
    assert read_evidence(wheel) == UNTESTED
