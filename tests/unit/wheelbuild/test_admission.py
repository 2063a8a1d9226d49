"""What an index lets in: every way in which a wheel, its name and its entry may disagree."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from apex_installer.model.entry import Module
from support.index_wheels import cell_version, write_cell_wheel
from wheelbuild.errors import PublishError, WheelError
from wheelbuild.index.admission import check_wheel
from wheelbuild.variants import describe

if TYPE_CHECKING:
    from pathlib import Path

INFO = f"apex-{cell_version()}.dist-info"
METADATA = f"{INFO}/METADATA"
WHEEL = f"{INFO}/WHEEL"
RECORD = f"{INFO}/RECORD"
TAG = "cp311-cp311-linux_x86_64"
PTX = Module(name="norm", file="norm.so", machine_code=("9.0",), ptx=("9.0",), needed=())
OTHER = replace(PTX, machine_code=("8.0",), ptx=())


def metadata(*, name: str = "apex", version: str | None = None, requires: str = "") -> str:
    requires = requires or "Requires-Dist: torch==2.11.*\nRequires-Dist: packaging>20.6\n"
    return (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version or cell_version()}\n{requires}\n"
    )


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"build_tag": 2},
        {"variant": "sm90"},
        {"variant": "sm120", "build_tag": 2},
        {"suffix": "norm.sm90"},
        {"suffix": "only1a2b3c4d"},
        {"cell": "python"},
    ],
    ids=str,
)
def test_a_sound_wheel_gives_its_metadata(tmp_path: Path, made: dict[str, object]) -> None:
    wheel = write_cell_wheel(tmp_path, **made)
    sidecar = check_wheel(wheel.path, wheel.entry)
    assert sidecar.decode().startswith("Metadata-Version: 2.1\nName: apex\n")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({METADATA: metadata(name="apecks")}, "METADATA says Name: apecks"),
        ({METADATA: metadata(version="0.1")}, "METADATA says Version: 0.1"),
        ({WHEEL: f"Wheel-Version: 1.0\nBuild: 3\nTag: {TAG}\n"}, "WHEEL says Build: 3"),
        ({WHEEL: "Wheel-Version: 1.0\nTag: cp310-cp310-linux_x86_64\n"}, "WHEEL says Tag: cp310"),
        ({WHEEL: "Wheel-Version: 1.0\n"}, "WHEEL says Tag: none"),
        ({RECORD: f"{RECORD},,\n"}, "RECORD lacks apex/__init__.py"),
        ({RECORD: "apex/gone.py,sha256=x,1\n"}, "RECORD names a missing apex/gone.py"),
        ({RECORD: "apex/__init__.py,sha256=x,1\n"}, "RECORD disagrees with apex/__init__.py"),
        ({RECORD: "apex/a.py,,\napex/a.py,,\n"}, "records a file twice"),
        ({METADATA: metadata(requires="Requires-Dist: ==\n")}, "a requirement that is none"),
    ],
)
def test_a_wheel_that_disagrees_with_itself(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    wheel = write_cell_wheel(tmp_path, files=files)
    with pytest.raises(PublishError, match=said):
        check_wheel(wheel.path, wheel.entry)


DESCRIPTION = f"{INFO}/variant.json"


@pytest.mark.parametrize(
    ("made", "changes", "said"),
    [
        ({"files": {DESCRIPTION: describe(["sm90"]).decode()}}, {}, "describes sm90, the name"),
        ({"variant": "sm90"}, {"variant": ""}, "says variant '', the wheel 'sm90'"),
        ({"variant": "sm90"}, {"modules": (PTX,)}, "norm holds sm90, PTX of 9.0, not sm90 alone"),
        ({"variant": "sm90"}, {"modules": (OTHER,)}, "norm holds sm80, not sm90 alone"),
        (
            {"variant": "sm90", "files": {DESCRIPTION: describe(["sm80"]).decode()}},
            {},
            "describes sm80, the name says otherwise",
        ),
        ({"variant": "sm90", "files": {DESCRIPTION: "[]"}}, {}, "cannot be believed"),
        ({"variant": "sm90", "files": {DESCRIPTION: "{}"}}, {}, "cannot be believed"),
    ],
)
def test_a_variant_is_what_its_label_says(
    tmp_path: Path, made: dict[str, object], changes: dict[str, object], said: str
) -> None:
    wheel = write_cell_wheel(tmp_path, **made)
    with pytest.raises(PublishError, match=said):
        check_wheel(wheel.path, replace(wheel.entry, **changes))


@pytest.mark.parametrize(
    "requires",
    [
        [],
        ["torch"],
        ["torch>=2.11"],
        ["torch==2.11"],
        ["torch==2.10.*"],
        ["torch==2.11.*; sys_platform == 'win32'"],
        ["torchvision==2.11.*"],
    ],
    ids=str,
)
def test_torch_must_be_pinned_to_the_minor(tmp_path: Path, requires: list[str]) -> None:
    wheel = write_cell_wheel(tmp_path, requires=requires)
    with pytest.raises(PublishError, match=r"lacks Requires-Dist: torch==2\.11\.\*"):
        check_wheel(wheel.path, wheel.entry)


@pytest.mark.parametrize(
    "version",
    [
        "0.1",
        "0.1+cu130.torch2.11",
        "0.1+20260708.cu130.torch2.10",
        "0.1+20260708.cu128.torch2.11",
        "0.1+20260708.cu130.torch2.11.norm",
        "0.1+20260708.python",
        "0.1+20260708.cu130.torch2.11+other",
    ],
)
def test_exactly_one_local_version_and_that_of_the_cell(tmp_path: Path, version: str) -> None:
    wheel = write_cell_wheel(tmp_path, version=version)
    with pytest.raises((PublishError, WheelError), match="not of the form"):
        check_wheel(wheel.path, wheel.entry)


def test_the_suffix_is_in_the_version(tmp_path: Path) -> None:
    wheel = write_cell_wheel(tmp_path, version=cell_version())
    with pytest.raises(PublishError, match=r"torch2\.11\.norm$"):
        check_wheel(wheel.path, replace(wheel.entry, suffix="norm"))


def test_a_wheel_of_another_python_or_platform_than_its_cell(tmp_path: Path) -> None:
    wheel = write_cell_wheel(tmp_path)
    other = replace(wheel.entry, cell="cp312-torch2.11-cu130-linux_aarch64")
    with pytest.raises(PublishError, match="is for cp311, its cell is cp312") as raised:
        check_wheel(wheel.path, other)
    assert "is for linux_x86_64, its cell is" in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "other.whl"),
        ("size", 1),
        ("sha256", 64 * "0"),
        ("metadata_sha256", 64 * "0"),
        ("distribution", "other"),
        ("version", "0.2"),
        ("build_tag", 7),
        ("requires", ()),
    ],
)
def test_an_entry_of_another_wheel(tmp_path: Path, field: str, value: object) -> None:
    wheel = write_cell_wheel(tmp_path)
    with pytest.raises(PublishError, match=f"its entry says {field} "):
        check_wheel(wheel.path, replace(wheel.entry, **{field: value}))


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    wheel = write_cell_wheel(tmp_path, files={METADATA: metadata(name="x", version="2")})
    with pytest.raises(PublishError) as raised:
        check_wheel(wheel.path, replace(wheel.entry, size=1))
    lines = str(raised.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{wheel.path.name}: ") for line in lines)


def test_what_is_no_zip(tmp_path: Path) -> None:
    wheel = write_cell_wheel(tmp_path)
    wheel.path.write_bytes(b"not a zip")
    with pytest.raises(WheelError):
        check_wheel(wheel.path, wheel.entry)
