import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from apex_installer.errors import CompileError
from apex_installer.make.capture import Capture
from apex_installer.make.pack import pack_wheel, wheel_name, wheel_tag
from apex_installer.make.request import BuildRequest
from support.captures import CAPTURE

SUFFIX = ".cpython-311-x86_64-linux-gnu.so"


def request_for(tmp_path: Path, **changes: object) -> BuildRequest:
    values = {
        "source": str(tmp_path / "src"),
        "interpreter": "/python",
        "distribution": "apex",
        "package": "apex",
        "version": "0.1+20260708.cu130.torch2.11",
        "cell": "cp311-torch2.11-cu130-linux_x86_64",
        "torch": "2.11.0+cu130",
        "modules": ("one",),
        "architectures": "9.0",
        "work": str(tmp_path / "work"),
        "requires": ("torch==2.11.*", "packaging>20.6"),
        **changes,
    }
    return BuildRequest(**values)  # type: ignore[arg-type]


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    files = {
        "src/LICENSE": "licence",
        "src/setup.py": "",
        "python/apex/__init__.py": "",
        "python/apex/data.json": "{}",
        "python/apex/tests/test_inner.py": "",
        "python/apex/__pycache__/x.pyc": "",
        "python/tests/test_a.py": "",
        f"modules/one{SUFFIX}": "module",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Capture(
        facts=CAPTURE.facts,
        setup=CAPTURE.setup,
        compiles=(),
        links=(),
        python_tree=str(tmp_path / "python"),
        build=str(tmp_path),
    )


def pack(tmp_path: Path, capture: Capture, **changes: object) -> Path:
    modules = {"one": str(tmp_path / f"modules/one{SUFFIX}")}
    return Path(
        pack_wheel(
            request_for(tmp_path, **changes),
            capture=capture,
            modules=modules,
            out=str(tmp_path / "out"),
        )
    )


INFO = "apex-0.1+20260708.cu130.torch2.11.dist-info"


def test_the_wheel_holds_modules_and_package_and_no_top_level_tests(
    tmp_path: Path, capture: Capture
) -> None:
    with zipfile.ZipFile(pack(tmp_path, capture)) as wheel:
        assert wheel.namelist() == [
            "apex/__init__.py",
            "apex/data.json",
            "apex/tests/test_inner.py",
            f"one{SUFFIX}",
            f"{INFO}/licenses/LICENSE",
            f"{INFO}/METADATA",
            f"{INFO}/WHEEL",
            f"{INFO}/top_level.txt",
            f"{INFO}/RECORD",
        ]
        assert wheel.read(f"{INFO}/top_level.txt") == b"apex\none\n"


def test_metadata_says_version_requirements_and_licence(tmp_path: Path, capture: Capture) -> None:
    with zipfile.ZipFile(pack(tmp_path, capture, build_tag=2)) as wheel:
        assert wheel.read(f"{INFO}/METADATA").decode() == (
            "Metadata-Version: 2.4\n"
            "Name: apex\n"
            "Version: 0.1+20260708.cu130.torch2.11\n"
            "Summary: Kernels\n"
            "License-File: LICENSE\n"
            "Requires-Dist: torch==2.11.*\n"
            "Requires-Dist: packaging>20.6\n"
        )
        lines = wheel.read(f"{INFO}/WHEEL").decode().splitlines()
        assert "Root-Is-Purelib: false" in lines
        assert "Tag: cp311-cp311-linux_x86_64" in lines
        assert "Build: 2" in lines


def test_record_holds_every_member_with_its_digest(tmp_path: Path, capture: Capture) -> None:
    with zipfile.ZipFile(pack(tmp_path, capture)) as wheel:
        rows = [line.split(",") for line in wheel.read(f"{INFO}/RECORD").decode().splitlines()]
        assert [row[0] for row in rows] == wheel.namelist()
        for name, digest, size in rows[:-1]:
            data = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
            assert (digest, size) == (f"sha256={expected.decode()}", str(len(data)))
        assert rows[-1][1:] == ["", ""]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, capture: Capture) -> None:
    first = pack(tmp_path, capture).read_bytes()
    (tmp_path / "python/apex/__init__.py").touch()
    assert pack(tmp_path, capture).read_bytes() == first


def test_times_are_those_of_source_date_epoch(
    tmp_path: Path, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    with zipfile.ZipFile(pack(tmp_path, capture)) as wheel:
        assert {item.date_time for item in wheel.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_a_source_of_another_package_is_refused(tmp_path: Path, capture: Capture) -> None:
    with pytest.raises(CompileError, match="do not hold 'other'"):
        pack(tmp_path, capture, package="other")


@pytest.mark.parametrize(
    ("tag", "has_modules", "name"),
    [
        ("cp310", True, "my_apex-0.1+x-cp310-cp310-linux_x86_64.whl"),
        ("cp313t", True, "my_apex-0.1+x-cp313-cp313t-linux_x86_64.whl"),
        ("cp310", False, "my_apex-0.1+x-py3-none-any.whl"),
    ],
    ids=["usual", "no GIL", "no modules"],
)
def test_the_file_name_says_what_it_is_for(tag: str, name: str, *, has_modules: bool) -> None:
    made = wheel_tag(interpreter_tag=tag, platform="linux_x86_64", has_modules=has_modules)
    assert wheel_name(distribution="my-apex", version="0.1+x", build_tag=0, tag=made) == name
