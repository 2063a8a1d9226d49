"""pip and uv beside the real torch 2.11.0 and its dependencies alone, with the real PyPI in reach.

The wheel is an empty one of the right name, version and requirements: what is asked here is what
a client makes of them and of torch's own metadata.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.clients import Target
from support.index_wheels import CellWheel, write_cell_wheel
from wheelbuild.publish import publish
from wheelbuild.serve import IndexServer
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.torch_environments import TorchEnvironment

pytestmark = pytest.mark.integration

PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
CELL = f"{PYTHON}-torch2.11-cu130-linux_x86_64"


@dataclass(frozen=True)
class Beside:
    """An index with one wheel, and the folder in which its environments are made."""

    made: CellWheel
    index: str
    torch: TorchEnvironment
    uv_program: str
    folder: Path

    @property
    def pin(self) -> str:
        return f"apex=={self.made.entry.version}"

    def target(self, name: str = "venv") -> Target:
        return Target(self.torch.throwaway(self.folder / name))

    def pip(self, *words: object, target: Target) -> None:
        self.run(sys.executable, "-m", "pip", "--python", target.python, *words)

    def uv(self, *words: object, **environ: str) -> None:
        self.run(self.uv_program, *words, **environ)

    def run(self, *words: object, **environ: str) -> None:
        """This machine's way to PyPI stays as it is; only caches and links are our own."""
        ran = subprocess.run(
            [str(word) for word in words],
            env={
                **{k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH"}},
                "PIP_CACHE_DIR": str(self.folder / "pip-cache"),
                "UV_CACHE_DIR": str(self.folder / "uv-cache"),
                "UV_PYTHON_DOWNLOADS": "never",
                **environ,
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{words}\n{ran.stdout}\n{ran.stderr}"


@pytest.fixture
def beside(
    torch_211: TorchEnvironment, tmp_path: Path, requires_tool: Callable[[str], str]
) -> Iterator[Beside]:
    made = write_cell_wheel(tmp_path / "built", cell=CELL)
    publish(made.path, made.entry, store=DirectoryStore(tmp_path / "farm"))
    with IndexServer(tmp_path / "farm") as server:
        index = f"{server.url}cu130/torch2.11/simple/"
        yield Beside(made, index, torch_211, requires_tool("uv"), tmp_path)


def places(target: Target) -> dict[str, tuple[int, int]]:
    """Inode and date of every file of torch and of what it loads."""
    found = {}
    for name in ("torch", "torch-*", "nvidia", "triton"):
        for folder in target.site_packages.glob(name):
            for path in folder.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    about = path.stat()
                    found[str(path)] = (about.st_ino, about.st_mtime_ns)
    return found


def check_ours_alone_came(
    beside: Beside, target: Target, before: dict[str, str], torch: dict[str, tuple[int, int]]
) -> None:
    after = target.versions()
    assert after.pop("packaging")
    assert after.pop("apex") == beside.made.entry.version
    assert after == before
    assert places(target) == torch
    assert (target.site_packages / "apex/inputs.py").is_file()  # PyPI's has none


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_what_is_printed_brings_ours_and_packaging_and_moves_nothing(
    beside: Beside, client: str
) -> None:
    target = beside.target()
    before, torch = target.versions(), places(target)
    assert before["torch"] == "2.11.0"
    assert "packaging" not in before
    words = ("install", beside.pin, "--extra-index-url", beside.index)
    if client == "pip":
        beside.pip(*words, "--pre", target=target)  # PyPI's `apex` are all pre-releases
    else:
        beside.uv("pip", *words, "--prerelease=allow", "--python", target.python)
    check_ours_alone_came(beside, target, before, torch)


def test_uv_lock_and_sync_with_an_explicit_index(beside: Beside) -> None:
    target = beside.target()
    before, torch = target.versions(), places(target)
    # Pinned as they are: the environment may be older than the newest of them.
    pins = [f"{name}=={version}" for name, version in before.items()]
    project = beside.folder / "pyproject.toml"
    project.write_text(
        f"""
[project]
name = "app"
version = "1"
requires-python = "=={PYTHON.replace("cp3", "3.")}.*"
dependencies = {[beside.pin, *pins]}
[tool.uv]
environments = ["sys_platform == 'linux' and platform_machine == 'x86_64'"]
[tool.uv.sources]
apex = {{ index = "apex-farm" }}
[[tool.uv.index]]
name = "apex-farm"
url = "{beside.index}"
explicit = true
"""
    )
    beside.uv("lock")
    lock = (beside.folder / "uv.lock").read_text()
    assert re.findall(r'name = "apex"\nversion = "([^"]+)"', lock) == [beside.made.entry.version]
    assert beside.made.entry.sha256 in lock
    beside.uv("sync", "--locked", UV_PROJECT_ENVIRONMENT=str(target.python.parents[1]))
    check_ours_alone_came(beside, target, before, torch)
