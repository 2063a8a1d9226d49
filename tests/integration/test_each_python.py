"""The thin part on every Python that a pod may have: 3.9 is the oldest, and its language."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from support.machine import REPOSITORY
from support.targets import add_foreign
from support.tiny_pod import TinyPod, make_kit, state_of
from support.wheels import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
SOURCES = REPOSITORY / "installer/src"
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import apex_installer
names = [one.name for one in pkgutil.walk_packages(apex_installer.__path__, "apex_installer.")]
for name in names:
    if not name.endswith(("__main__", "capture_setup")):
        importlib.import_module(name)
print(len(names))
"""
"""`capture_setup` runs a `setup.py` when it is imported; it is compiled below, as all others."""


@pytest.fixture(params=PYTHONS)
def minor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def python(minor: str, requires_python: Callable[[str], str]) -> str:
    return requires_python(minor)


def run(python: str, *words: str) -> str:
    """Its stdout; every warning is an error, and nothing is written beside the sources."""
    command = [python, "-I", "-B", "-W", "error", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_module_compiles_and_imports(python: str) -> None:
    files = sorted(SOURCES.rglob("*.py"))
    check = "import sys\nfor path in sys.argv[1:]: compile(open(path).read(), path, 'exec')"
    run(python, "-W", "ignore::ResourceWarning", "-c", check, *map(str, files))
    assert int(run(python, "-c", IMPORT_ALL, str(SOURCES))) > 60


def test_it_says_what_it_is_and_would_install(python: str, minor: str, tmp_path: Path) -> None:
    """The help, the version, then a dry run and a real one in an environment of that Python."""
    kit = make_kit(tmp_path / "kit", python=python, minor=minor)
    pod = TinyPod(tmp_path / "pod", kit)
    assert "--index-url URL" in run(str(pod.python), str(kit.zipapp), "--help")
    assert run(str(pod.python), str(kit.zipapp), "--version").startswith("apex-install ")
    add_foreign(pod.target)
    pod.offer(pod.wheel())
    before = state_of(pod.root)
    ended = pod.run("--dry-run", "--gpu", "9.0")
    assert (ended.code, ended.line) == (0, f"apex: wheel, would install apex {VERSION} (sm_90)")
    assert ended.report["environment"]["python_tag"] == kit.tag
    assert state_of(pod.root) == before
    assert pod.run("--gpu", "9.0").line == f"apex: wheel, apex {VERSION} (sm_90)"
    assert pod.run("--gpu", "9.0").line == f"apex: already, apex {VERSION} (wheel)"
