from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from wheelbuild.errors import WheelError
from wheelbuild.wheelfile import (
    WheelName,
    find_dist_info,
    find_modules,
    pack_wheel,
    read_member,
    unpack_wheel,
)

NAME = "apex-0.1+20260708.cu130.torch2.11-2-cp311-cp311-manylinux_2_34_x86_64.whl"


def make_folder(folder: Path) -> Path:
    dist_info = folder / "apex-0.1.dist-info"
    dist_info.mkdir(parents=True)
    (dist_info / "METADATA").write_text("Name: apex\n")
    (dist_info / "RECORD").write_text("stale\n")
    (folder / "apex").mkdir()
    (folder / "apex/__init__.py").write_text("")
    (folder / "zz_cuda.cpython-311-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")
    return folder


@pytest.mark.parametrize(
    "text",
    [
        NAME,
        "apex-0.1-cp311-cp311-linux_x86_64.whl",
        "apex-0.1+1.python-py3-none-any.whl",
        "apex-0.1-cp311-cp311-linux_x86_64-sm90.whl",
        NAME.replace(".whl", "-sm120.whl"),
        "apex-0.1-cp311-cp311-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
    ],
)
def test_a_name_parses_back(text: str) -> None:
    assert WheelName.parse(text).text == text


def test_a_name_says_its_build_tag() -> None:
    assert WheelName.parse(NAME).build_tag == 2


@pytest.mark.parametrize("text", ["apex.whl", "apex-0.1-2x-cp311-cp311-linux_x86_64.whl", "a.zip"])
def test_another_name_is_refused(text: str) -> None:
    with pytest.raises(WheelError, match="not the file name of a wheel"):
        WheelName.parse(text)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = make_folder(tmp_path / "1")
    second = make_folder(tmp_path / "2")
    for path in second.rglob("*"):
        os.utime(path, (0, 0))
    digests = {
        hashlib.sha256(pack_wheel(folder, path=tmp_path / str(n) / NAME).read_bytes()).hexdigest()
        for n, folder in enumerate((first, second), 3)
    }
    assert len(digests) == 1


def test_record_is_last_and_lists_every_file_with_its_digest(tmp_path: Path) -> None:
    wheel = pack_wheel(make_folder(tmp_path / "1"), path=tmp_path / NAME)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = archive.read("apex-0.1.dist-info/RECORD").decode().splitlines()
    assert names == [
        "apex/__init__.py",
        "zz_cuda.cpython-311-x86_64-linux-gnu.so",
        "apex-0.1.dist-info/METADATA",
        "apex-0.1.dist-info/RECORD",
    ]
    assert record[0] == "apex/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0"
    assert record[-1] == "apex-0.1.dist-info/RECORD,,"
    assert len(record) == len(names)


def test_directory_members_are_dropped(tmp_path: Path) -> None:
    source = tmp_path / NAME
    with zipfile.ZipFile(source, "w") as archive:
        archive.mkdir("apex")
        archive.writestr("apex/__init__.py", "")
        archive.writestr("apex-0.1.dist-info/METADATA", "")
    unpack_wheel(source, into=tmp_path / "files")
    pack_wheel(tmp_path / "files", path=tmp_path / "out" / NAME)
    with zipfile.ZipFile(tmp_path / "out" / NAME) as archive:
        assert not [name for name in archive.namelist() if name.endswith("/")]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "apex/../../evil", "apex\\..\\evil"])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    wheel = tmp_path / NAME
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, "")
    with pytest.raises(WheelError, match="leads outside"):
        unpack_wheel(wheel, into=tmp_path / "files")
    assert not (tmp_path / "evil").exists()


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / NAME
    wheel.write_bytes(b"not a zip")
    with pytest.raises(WheelError, match="not a sound wheel"):
        unpack_wheel(wheel, into=tmp_path)
    with pytest.raises(WheelError, match="cannot be read as a wheel"):
        read_member(wheel, "METADATA")


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / NAME
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("apex.py", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("apex.py", "2")
    with pytest.raises(WheelError, match="not a sound wheel"):
        unpack_wheel(wheel, into=tmp_path / "files")


def test_a_member_of_the_dist_info_is_read(tmp_path: Path) -> None:
    wheel = pack_wheel(make_folder(tmp_path / "1"), path=tmp_path / NAME)
    assert read_member(wheel, "METADATA") == b"Name: apex\n"
    with pytest.raises(WheelError, match="has no entry_points"):
        read_member(wheel, "entry_points.txt")


def test_modules_are_named_as_they_are_imported(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "1")
    (folder / "apex/inner.abi3.so").write_bytes(b"")
    assert list(find_modules(folder)) == ["apex.inner", "zz_cuda"]


def test_two_dist_infos_are_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "1")
    (folder / "other-1.dist-info").mkdir()
    with pytest.raises(WheelError, match=r"2 \.dist-info folders"):
        find_dist_info(folder)
