"""Bad input to the farm, from its command line: one line a fault, its code, nothing changed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.farm_data import write_data
from support.tiny_pod import TAG, VERSION_PY, make_venv, site_packages, state_of, write_torch

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

CELL = f"{TAG}-torch2.4-cu127"
"""CUDA 12.7 was never published, so that no machine has it."""
CHANGES = (
    (
        "matrix.toml",
        'cudas = ["12.1"]\npythons = ["cp310"]',
        f'cudas = ["12.7"]\npythons = ["{TAG}"]',
    ),
    ("matrix.toml", 'pythons = ["cp39", "cp310"]', f'pythons = ["{TAG}"]'),
    ("matrix.toml", 'cuda = "12.1"', 'cuda = "12.7"'),
    ("matrix.toml", "cxx11_abi = false", "cxx11_abi = true"),
    ("matrix.toml", 'pythons = ["cp313t"]', 'pythons = ["cp38", "cp313t"]'),
    ("toolkits.toml", 'cuda = "12.1"', 'cuda = "12.7"'),
    ("toolkits.toml", 'release = "12.1.1"', 'release = "12.7.1"'),
)
HEADERS = (
    "include/cuda_runtime.h",
    "include/crt/host_config.h",
    "include/cublas_v2.h",
    "include/cusparse.h",
    "include/cusolverDn.h",
    "lib64/libcudart.so",
)


@dataclass(frozen=True)
class Ended:
    code: int
    lines: list[str]
    """Of stderr; nothing was said on stdout."""

    @property
    def line(self) -> str:
        return self.lines[-1]


@dataclass(frozen=True)
class Farm:
    """A data folder, an interpreter with the cell's torch, and a folder to work in."""

    folder: Path
    python: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self, *words: str, **environ: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "wheelbuild", "--data", str(self.data), *words],
            env={**os.environ, "TMPDIR": str(self.folder / "tmp"), **environ},
            cwd=self.folder / "here",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == ""
        lines = [line for line in done.stderr.splitlines() if line.startswith("wheelbuild: ")]
        assert "Traceback" not in done.stderr
        return Ended(done.returncode, lines)

    def build(self, **environ: str) -> Ended:
        source = self.folder / "source"
        words = ["build", CELL, "--python", str(self.python), "--source", str(source)]
        return self.run(*words, **environ)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.data / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def write_nvcc(self, release: str) -> Path:
        """A toolkit that says it is this release, and has what is looked for."""
        home = self.folder / "cuda"
        nvcc = home / "bin/nvcc"
        nvcc.parent.mkdir(parents=True)
        nvcc.write_text(
            f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.99'\n"
        )
        nvcc.chmod(0o755)
        for name in HEADERS:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).touch()
        return home


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with torch 2.4.0 of CUDA 12.7."""
    folder = tmp_path_factory.mktemp("python") / "venv"
    make_venv(folder)
    text = VERSION_PY.replace("2.11.0+cu130", "2.4.0+cu127").replace("'13.0'", "'12.7'")
    write_torch(site_packages(folder), version_py=text)
    return folder / "bin/python"


@pytest.fixture
def farm(tmp_path: Path, python: Path) -> Farm:
    for name in ("here", "tmp", "source"):
        (tmp_path / name).mkdir()
    (tmp_path / "source/setup.py").touch()
    write_data(tmp_path / "data", *CHANGES)
    return Farm(tmp_path, python)


@dataclass(frozen=True)
class Case:
    words: tuple[str, ...]
    code: int
    says: tuple[str, ...]
    """The beginning of a line each, in order: there are no others."""
    spoil: Callable[[Farm], object] = lambda _: None


CASES: dict[str, Case] = {
    "a cell that the matrix excludes": Case(
        ("build", "cp313t-torch2.11-cu130"),
        2,
        ("cp313t-torch2.11-cu130: excluded by matrix.toml: no modules without the GIL",),
    ),
    "an excluded cell is not planned either": Case(
        ("plan", "cp38-torch2.4-cu127"),
        2,
        ("cp38-torch2.4-cu127: excluded by matrix.toml: no modules without the GIL",),
    ),
    "a cell that the matrix does not have": Case(
        ("run", f"{TAG}-torch2.4-cu128"),
        2,
        (f"{TAG}-torch2.4-cu128: matrix.toml has no such cell; near: {CELL}-linux_x86_64",),
    ),
    "unknown names in --only": Case(
        ("plan", CELL, "--only", "FusedRMSNrom,plainC"),
        2,
        ("--only FusedRMSNrom: unknown; near: FusedRMSNorm, ",),
    ),
    "an architecture that this CUDA does not know": Case(
        ("plan", CELL, "--arch", "99.9"),
        2,
        ("--arch: nvcc of CUDA 12.7 makes no code for 99.9 (",),
    ),
    "malformed TOML": Case(
        ("matrix",),
        2,
        ("matrix.toml:4: not TOML: ",),
        lambda farm: farm.edit("matrix.toml", "[[cells]]", "[[cells]"),
    ),
    "malformed TOML in two files": Case(
        ("plan",),
        2,
        ("matrix.toml:4: not TOML: ", "toolkits.toml:3: not TOML: "),
        lambda farm: (
            farm.edit("matrix.toml", "[[cells]]", "[[cells]"),
            farm.edit("toolkits.toml", "[[toolkits]]", "[[toolkits]"),
        ),
    ),
    "a matrix with an unknown key": Case(
        ("plan",),
        2,
        (
            "matrix.toml:4: cells[0]: no 'pythons': a list of strings is wanted",
            "matrix.toml:7: cells[0].phytons: unknown key; near: pythons",
        ),
        lambda farm: farm.edit("matrix.toml", "pythons", "phytons"),
    ),
    "a data folder that is not there": Case(
        ("matrix", "--data", "/nowhere"),
        2,
        ("/nowhere: no such folder; --data names one with matrix.toml",),
    ),
    "a wheel that is not there": Case(
        ("repair", "/nowhere.whl"),
        2,
        ("argument WHEEL: /nowhere.whl: no such file; see wheelbuild repair --help",),
    ),
    "a file that is no wheel": Case(
        ("publish", __file__),
        3,
        (f"{__file__}: cannot be read as a wheel: ",),
    ),
    "a job that is none": Case(
        ("stamp", __file__, "--job", __file__),
        2,
        (f"{__file__}: not a job: ",),
    ),
    "an interpreter without torch": Case(
        ("build", CELL, "--python", sys.executable),
        3,
        (f"{sys.executable}: ",),
    ),
    "a result that cannot be written": Case(
        ("zipapp", "--out", "/proc/nowhere/apex-install.pyz"),
        3,
        ("/proc/nowhere: No such file or directory (log: ",),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_a_fault_its_code_and_nothing_changed(farm: Farm, name: str) -> None:
    case = CASES[name]
    case.spoil(farm)
    here, data = farm.folder / "here", state_of(farm.data)
    ended = farm.run(*case.words)
    assert ended.code == case.code, ended.lines
    assert len(ended.lines) == len(case.says), ended.lines
    for line, words in zip(ended.lines, case.says, strict=True):
        assert line.startswith(f"wheelbuild: {words}")
    assert state_of(farm.data) == data
    assert state_of(here) == {}, "something was begun"


def test_a_toolkit_of_another_cuda(farm: Farm) -> None:
    home = farm.write_nvcc("12.4")
    ended = farm.build(CUDA_HOME=str(home), PATH="/nowhere")
    assert ended.code == 3
    assert f"no CUDA toolkit equals torch's 12.7: CUDA_HOME ({home}) is CUDA 12.4; " in ended.line
    assert "/usr/local/cuda-12.7 is not there" in ended.line
    assert "install cuda-nvcc-12-7 or set CUDA_HOME to a 12.7 toolkit; nor can" in ended.line
    assert "nor can NVIDIA's archives be had: https://example.invalid/nvcc.tar.xz" in ended.line
    assert_not_begun(farm)


def test_no_compiler(farm: Farm) -> None:
    home = farm.write_nvcc("12.7")
    ended = farm.build(CUDA_HOME=str(home), PATH="/nowhere")
    assert ended.code == 3
    assert "no host compiler: c++ cannot be started: No such file or directory" in ended.line
    assert ended.line.endswith("install g++, or set CXX")
    assert_not_begun(farm)


def assert_not_begun(farm: Farm) -> None:
    """No job folder, no index: only a place for toolkits may have been made."""
    begun = {Path(name).parts[:2] for name in state_of(farm.folder / "here")}
    assert begun <= {(".cache",), (".cache", "toolkits")}, begun
