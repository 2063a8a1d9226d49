from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apex_installer.model.arch import Architectures
from apex_installer.model.cell import Cell
from apex_installer.model.report import Attempt, Report
from support.jobs import CELL, make_job
from wheelbuild.clients import report_lines
from wheelbuild.demo import choose_row, list_downloads
from wheelbuild.errors import UsageError
from wheelbuild.matrix import Matrix, Row
from wheelbuild.toolkits import Part, Toolkit, Toolkits


def make_row(label: str, release: str) -> Row:
    return Row(
        cell=Cell.parse(label),
        torch_release=release,
        torch_index="https://pypi.org/simple",
        policy="manylinux_2_28",
        cxx11_abi=True,
        architectures=Architectures.parse("8.0;9.0+PTX"),
        why="a test",
    )


OLD = make_row("cp311-torch2.6-cu124-linux_x86_64", "2.6.0")
NEW = make_row(CELL.label, "2.11.0")
NEWEST = make_row("cp311-torch2.15-cu130-linux_x86_64", "2.15.0")
NEWER_OTHER_PYTHON = make_row("cp312-torch2.12-cu130-linux_x86_64", "2.12.0")
PART = Part(name="nvidia-cuda-nvcc", version="13.0.88", file="a.whl", sha256="0" * 64, size=37)


def make_data() -> Any:
    toolkit = Toolkit(
        cuda=(13, 0),
        release="13.0.2",
        how="wheels",
        base_url="",
        parts=(PART, PART),
        headers=(),
        gcc_max=15,
        clang_max=20,
        architectures=("9.0",),
        source="",
    )
    rows = (NEWER_OTHER_PYTHON, NEW, OLD, NEWEST)
    return SimpleNamespace(
        matrix=Matrix(rows=rows, exclusions=()),
        toolkits=Toolkits(toolkits={(13, 0): toolkit}, build_requirements=(), apt=None),
        directory=Path(),
    )


def test_the_first_cell_of_this_python_is_taken() -> None:
    row = choose_row(make_data(), python="cp311", torch=None, compilers=frozenset())
    assert row == NEW


def test_a_torch_whose_compiler_is_not_to_be_had_is_passed_over() -> None:
    data = make_data()
    data.toolkits = Toolkits(toolkits={}, build_requirements=(), apt=None)
    assert choose_row(data, python="cp311", torch=None, compilers=frozenset({"12.4"})) == OLD


def test_the_torch_that_is_there_decides() -> None:
    data, compilers = make_data(), frozenset({"12.4"})
    assert choose_row(data, python="cp311", torch="2.6.0+cu124", compilers=compilers) == OLD


def test_no_cell_for_this_python_names_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"no cell for cp39.*--python"):
        choose_row(make_data(), python="cp39", torch=None, compilers=frozenset())


def test_what_is_here_is_not_downloaded() -> None:
    torch, compiler, _ = list_downloads(make_data(), make_job(), has_torch=True, has_nvcc=False)
    assert (torch.size, torch.disk) == (0, 0)
    assert compiler.size == 74


def test_the_report_is_shown_whole_and_its_last_line_last() -> None:
    report = Report(
        outcome="wheel",
        exit_code=0,
        line="wheel, apex 0.1 (sm_90)",
        version="0.1.0",
        environment={"torch": "2.11.0+cu130", "gpus": [], "driver": None},
        attempts=(Attempt("wheel", "trust", "a.whl: wrong sha256"),),
        seconds={"read": 0.0071, "total": 0.5},
    )
    assert report_lines({**report.to_json(), "chosen": {"file": "b.whl"}}) == [
        "outcome: wheel, exit code 0",
        "environment: torch 2.11.0+cu130, gpus none",
        "chosen: b.whl",
        "attempts: outcome wheel, cause trust, detail a.whl: wrong sha256, seconds 0.0",
        "seconds: read 0.007, total 0.500",
        "apex: wheel, apex 0.1 (sm_90)",
    ]
