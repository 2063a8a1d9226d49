"""Whose objects may be shared: torch's commit and every program of the toolchain decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from wheelbuild.engines.objects import objects_folder

pytestmark = pytest.mark.integration

TOOLS = ("bin/nvcc", "bin/ptxas", "nvvm/bin/cicc")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in TOOLS:
        path = tmp_path / "cuda" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    write_compiler(tmp_path / "path", "g++", behind=tmp_path / "cc1plus")
    return tmp_path / "cuda"


def write_compiler(folder: Path, name: str, *, behind: Path) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho {behind}\n")
    program.chmod(0o755)
    behind.write_text("#!/bin/sh\n")
    behind.chmod(0o755)


def folder_of(home: Path, *, torch_git: str = "a" * 40, **environ: str) -> str:
    found = objects_folder(
        Path("/cache"),
        torch="2.11.0+cu130",
        torch_git=torch_git,
        cuda_home=str(home),
        environ={"PATH": str(home.parent / "path"), **environ},
    )
    return str(found)


def test_the_folder_is_one_for_torch_and_cuda(home: Path) -> None:
    assert folder_of(home).startswith("/cache/objects/torch2.11.0+cu130-")
    assert folder_of(home) == folder_of(home)
    assert folder_of(home) != folder_of(home, torch_git="b" * 40)


@pytest.mark.parametrize("name", [*(f"cuda/{tool}" for tool in TOOLS), "cc1plus"])
def test_any_program_that_changes_makes_it_another(home: Path, name: str) -> None:
    before = folder_of(home)
    program = home.parent / name
    program.write_text(f"{program.read_text()}# newer\n")
    assert folder_of(home) != before


def test_a_compiler_that_is_chosen_by_a_variable_counts(home: Path, tmp_path: Path) -> None:
    write_compiler(tmp_path / "other", "clang++", behind=tmp_path / "behind")
    assert folder_of(home, CXX=str(tmp_path / "other/clang++")) != folder_of(home)
