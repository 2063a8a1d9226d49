"""The launcher, on a project of the same shape: two distributions.

Once with real venv and pip; the rest with a Python that only writes down what it is asked for.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.machine import REPOSITORY
from support.torch_environments import lock

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

BUILD_SYSTEM = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
"""
WHEELBUILD = """
[project]
name = "wheelbuild"
version = "0.1.0"
dependencies = ["apex-installer"]
optional-dependencies.test = []
scripts.wheelbuild = "wheelbuild:main"
[tool.setuptools]
packages = ["wheelbuild"]
"""
INSTALLER = """
[project]
name = "apex-installer"
version = "0.1.0"
[tool.setuptools]
packages = ["apex_installer"]
package-dir = {"" = "src"}
"""
FAKE_PYTHON = """
case "$*" in
  "-m venv --clear "*)
    rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"
    echo venv >>"$LOG" ;;
  "-m pip "*)
    echo pip >>"$LOG"; sleep "${PIP_SECONDS:-0}"
    venv=$(dirname "$(dirname "$0")")
    printf '#!/bin/sh\necho ran $WHEELBUILD_CACHE\n' >"$venv/bin/wheelbuild"
    chmod +x "$venv/bin/wheelbuild" ;;
esac
"""
PROGRAM = """
import os, sys
import apex_installer
def main():
    print("ran", *sys.argv[1:], os.environ["WHEELBUILD_CACHE"])
"""


@pytest.fixture(scope="session")
def wheels(cache: Path) -> Path:
    """A folder of wheels: what the build needs, downloaded once."""
    folder = cache / "test-wheels"
    with lock(cache / "test-wheels.lock"):
        if not list(folder.glob("setuptools-*.whl")):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*pip, "-d", str(folder), "setuptools>=77"], check=True)
    return folder


class Project:
    """A checkout, away from every index."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = folder
        self.environ = {
            "PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "FARM_PYTHON": str(Path(sys.executable).resolve()),
            "LOG": str(folder.parent / "log"),
        }

    def done(self) -> list[str]:
        """What the fake Python was asked for since the last time."""
        log = Path(self.environ["LOG"])
        words = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return words

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.folder / "farm"), *words],
            cwd="/",
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        output, errors = process.communicate(timeout=120)
        return process.returncode, output.strip(), errors.strip()


@pytest.fixture
def project(tmp_path: Path, wheels: Path) -> Project:
    folder = tmp_path / "a project"
    for path, text in (
        ("pyproject.toml", BUILD_SYSTEM + WHEELBUILD),
        ("installer/pyproject.toml", BUILD_SYSTEM + INSTALLER),
        ("wheelbuild/__init__.py", PROGRAM),
        ("installer/src/apex_installer/__init__.py", ""),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    shutil.copy(REPOSITORY / "farm", folder / "farm")
    return Project(folder, wheels)


def test_first_call_installs_from_a_folder_of_wheels_and_the_second_is_quick(
    project: Project,
) -> None:
    code, output, errors = project.run("plan", "two words")
    assert (code, output) == (0, f"ran plan two words {project.folder}/.cache")
    assert errors == "farm: installing into .venv, once"

    # What the launcher itself takes: until it has become the farm.
    program = project.folder / ".venv/bin/wheelbuild"
    program.write_text("#!/bin/sh\n")
    took = []
    for _ in range(5):
        started = time.monotonic()
        assert project.run("plan") == (0, "", "")
        took.append(time.monotonic() - started)
    assert min(took) < 0.2


@pytest.fixture
def faked(project: Project, tmp_path: Path) -> Project:
    fake_python(tmp_path / "bin", "python3", FAKE_PYTHON)
    project.environ["FARM_PYTHON"] = str(tmp_path / "bin/python3")
    return project


def fake_python(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_nothing_is_done_twice(faked: Project) -> None:
    assert faked.run("plan")[:2] == (0, f"ran {faked.folder}/.cache")
    assert faked.done() == ["venv", "pip"]
    assert faked.run("plan")[:2] == (0, f"ran {faked.folder}/.cache")
    assert faked.done() == []


def stamp_of(project: Project) -> str:
    """What is installed."""
    return (project.folder / ".venv/farm-stamp").read_text().rstrip("\n")


@pytest.mark.parametrize("file", ["pyproject.toml", "installer/pyproject.toml"])
def test_a_changed_pyproject_is_installed_again(faked: Project, file: str) -> None:
    faked.run("plan")
    faked.done()
    with (faked.folder / file).open("a") as text:
        text.write("# changed\n")
    assert faked.run("plan")[2] == "farm: installing into .venv, once"
    assert faked.done() == ["pip"]


def test_the_tests_add_their_packages_which_serve_all_commands(faked: Project) -> None:
    faked.run("plan")
    faked.done()
    faked.run("test")
    assert faked.done() == ["pip"]
    faked.run("plan")
    assert faked.done() == []


def test_a_container_engine_adds_what_drives_it(faked: Project) -> None:
    """cibuildwheel is no small thing: who builds without it does not install it."""
    faked.run("make", "a-cell", "--engine", "local")
    assert stamp_of(faked).endswith(" ")
    faked.done()
    faked.run("make", "a-cell", "--engine", "container", "--image", "x")
    assert stamp_of(faked).endswith(" [container]")
    assert faked.done() == ["pip"]
    for words in (("run", "a-cell", "--engine=podman"), ("plan",)):
        faked.run(*words)
        assert faked.done() == []


@pytest.mark.parametrize("installed_before", [False, True], ids=["first call", "upgrade"])
def test_a_call_that_was_killed_is_repaired_by_the_next(
    faked: Project, installed_before: bool
) -> None:
    if installed_before:
        faked.run("plan")
        (faked.folder / "pyproject.toml").write_text("# changed\n")
        faked.done()
    faked.environ["PIP_SECONDS"] = "60"
    process = faked.start("plan")
    log = Path(faked.environ["LOG"])
    while not (log.exists() and "pip" in log.read_text()):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    faked.done()

    del faked.environ["PIP_SECONDS"]
    assert faked.run("plan")[:2] == (0, f"ran {faked.folder}/.cache")
    assert faked.done() == ["venv", "pip"]


def test_calls_at_once_install_once(faked: Project, requires_tool: Callable[[str], str]) -> None:
    requires_tool("flock")
    faked.environ["PIP_SECONDS"] = "0.5"
    calls = [faked.start("plan") for _ in range(3)]
    assert {call.communicate()[0] for call in calls} == {f"ran {faked.folder}/.cache\n"}
    assert faked.done() == ["venv", "pip"]


def test_a_project_that_was_moved_gets_a_new_environment(faked: Project, tmp_path: Path) -> None:
    faked.run("plan")
    faked.done()
    faked.folder = faked.folder.rename(tmp_path / "moved")
    assert faked.run("plan")[:2] == (0, f"ran {tmp_path}/moved/.cache")
    assert faked.done() == ["venv", "pip"]


def test_a_python_that_does_not_run_is_passed_over(faked: Project, tmp_path: Path) -> None:
    """A shim stands on PATH whose Python is not installed."""
    fake_python(tmp_path / "bin", "python3", "echo 'pyenv: not installed' >&2; exit 127")
    fake_python(tmp_path / "bin", "python3.13", FAKE_PYTHON)
    del faked.environ["FARM_PYTHON"]
    faked.environ["PATH"] = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    assert faked.run("plan")[0] == 0
    assert faked.done() == ["venv", "pip"]


def test_without_ensurepip_one_line_says_what_to_install(faked: Project, tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3", 'case "$*" in *ensurepip*) exit 1 ;; esac')
    code, _, errors = faked.run("plan")
    assert code == 2
    assert errors == (
        f"farm: {tmp_path}/bin/python3 has no ensurepip, which .venv is made with: "
        "apt install python3-venv"
    )


def test_an_old_python_is_not_taken(
    project: Project, requires_python: Callable[[str], str]
) -> None:
    project.environ["FARM_PYTHON"] = requires_python("3.9")
    code, _, errors = project.run("plan")
    assert code == 2
    assert errors.startswith("farm: no Python >= 3.11 found: apt install")
