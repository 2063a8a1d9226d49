"""The one file, as Pythons of this machine really run it."""

from __future__ import annotations

import json
import marshal
import subprocess
import zipfile
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from wheelbuild.zipapp import pack_zipapp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration

RECIPE = json.dumps({"distribution": "apex"})


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zipapp") / "apex-install.pyz"
    return pack_zipapp(
        out=out, texts={"recipe.json": RECIPE}, index_url="https://wheels.example/index"
    )


def test_the_same_input_gives_the_same_bytes(zipapp: Path, tmp_path: Path) -> None:
    again = pack_zipapp(
        out=tmp_path / "again.pyz",
        texts={"recipe.json": RECIPE},
        index_url="https://wheels.example/index",
    )
    # By digest: pytest would search a difference of megabytes for minutes.
    assert sha256(again.read_bytes()).digest() == sha256(zipapp.read_bytes()).digest()


def test_it_can_be_run_as_a_command(zipapp: Path) -> None:
    assert zipapp.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert zipapp.stat().st_mode & 0o111


@pytest.mark.parametrize("minor", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_it_starts_on_each_python(
    zipapp: Path, minor: str, requires_python: Callable[[str], str]
) -> None:
    command = [requires_python(minor), "-I", str(zipapp), "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("apex-install ")
    assert ran.stderr == ""


PROBE = """
import runpy, sys
sys.argv = ["apex-install.pyz", "--version"]
try:
    runpy.run_path({path!r}, run_name="__main__")
except SystemExit:
    pass
import apex_installer, apex_installer.data
print(type(apex_installer.__loader__).__name__)
print(apex_installer.data.read("recipe.json"))
print(apex_installer.data.read("defaults.json"))
print(apex_installer.data.read("nothing.json"))
import apex_installer.errors, inspect
print(inspect.getsource(apex_installer.errors.UsageError).splitlines()[0])
"""


def probe(zipapp: Path, python: str) -> list[str]:
    command = [python, "-I", "-c", PROBE.format(path=str(zipapp))]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()[1:]


def test_modules_come_compiled_with_their_data_and_sources(
    zipapp: Path, requires_python: Callable[[str], str]
) -> None:
    lines = probe(zipapp, requires_python("3.9"))
    assert lines == [
        "CompiledModules",
        RECIPE,
        '{"index_url": "https://wheels.example/index"}',
        "None",
        "class UsageError(InstallError):",
    ]


def test_a_python_that_was_not_packed_runs_the_sources(
    tmp_path: Path, requires_python: Callable[[str], str]
) -> None:
    bare = pack_zipapp(out=tmp_path / "x.pyz", texts={"recipe.json": RECIPE}, pythons=())
    lines = probe(bare, requires_python("3.9"))
    assert lines[:3] == ["zipimporter", RECIPE, "None"]


def test_bytecode_of_another_release_of_the_same_minor_is_left_alone(
    zipapp: Path, tmp_path: Path, requires_python: Callable[[str], str]
) -> None:
    broken = tmp_path / "x.pyz"
    with zipfile.ZipFile(zipapp) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "compiled/cpython-39":
                modules = marshal.loads(content)[1]  # noqa: S302 - ours
                content = marshal.dumps((b"\0\0\r\n", modules), 4)
            target.writestr(name, content)
    assert probe(broken, requires_python("3.9"))[0] == "zipimporter"
