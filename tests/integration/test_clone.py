from __future__ import annotations

import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from apex_installer.model.environment import Interpreter, Torch
from wheelbuild.engines.clone import clone_environment
from wheelbuild.engines.environment import BuildEnvironment

pytestmark = pytest.mark.integration


@pytest.fixture
def environment(tmp_path: Path) -> BuildEnvironment:
    """A site-packages with a torch of one line."""
    site = tmp_path / "site-packages"
    for name in ("torch", "apex", "apexlike", "apex-0.1.dist-info", "apex_c.dist-info"):
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text(f"name = {name!r}\n")
    interpreter = Interpreter(
        executable=sys.executable,
        tag="cp311",
        version="3.11",
        platform="linux_x86_64",
        extension_suffix=sysconfig.get_config_var("EXT_SUFFIX"),
        path=(str(site),),
        purelib=str(site),
    )
    torch = Torch(
        directory=str(site / "torch"), version="2.11.0", git="", cuda="13.0", cxx11_abi=True
    )
    return BuildEnvironment(interpreter=interpreter, torch=torch)


def run(python: Path, code: str) -> str:
    command = [str(python), "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_clone_holds_the_same_but_for_what_is_left_out(
    environment: BuildEnvironment, tmp_path: Path
) -> None:
    python = clone_environment(environment, into=tmp_path / "clone", without=["apex"])
    assert run(python, "import torch; print(torch.name)") == "torch"
    (site,) = (tmp_path / "clone").glob("lib/python3*/site-packages")
    assert sorted(path.name for path in site.iterdir()) == ["apex_c.dist-info", "apexlike", "torch"]


def test_a_package_that_lies_in_two_folders_is_the_sum_only_if_it_is_a_namespace(
    environment: BuildEnvironment, tmp_path: Path
) -> None:
    second = tmp_path / "second/site-packages"
    for name, file in (
        ("nvidia/a", "1.so"),
        ("torch", "other.py"),
        ("more", "__init__.py"),
        ("apex-0.2.dist-info", "METADATA"),
    ):
        (second / name).mkdir(parents=True)
        (second / name / file).write_text("")
    (tmp_path / "site-packages/nvidia/b").mkdir(parents=True)
    (tmp_path / "site-packages/nvidia/b/2.so").write_text("")
    path = (str(tmp_path / "site-packages"), str(second))
    both = replace(environment, interpreter=replace(environment.interpreter, path=path))
    clone_environment(both, into=tmp_path / "clone")
    (site,) = (tmp_path / "clone").glob("lib/python3*/site-packages")
    assert (site / "nvidia/a/1.so").is_file()
    assert (site / "nvidia/b/2.so").is_file()
    assert (site / "more/__init__.py").is_file()
    assert not (site / "torch/other.py").exists()
    assert not (site / "apex-0.2.dist-info").exists()


def test_removing_from_a_clone_leaves_the_original(
    environment: BuildEnvironment, tmp_path: Path
) -> None:
    clone_environment(environment, into=tmp_path / "clone")
    (site,) = (tmp_path / "clone").glob("lib/python3*/site-packages")
    (site / "torch/__init__.py").unlink()
    assert (Path(environment.torch.directory) / "__init__.py").is_file()
