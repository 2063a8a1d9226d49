"""Jobs and requests for tests, without the recipe or the matrix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apex_installer.make.request import BuildRequest
from apex_installer.model.arch import Architectures
from apex_installer.model.cell import Cell
from apex_installer.model.entry import Module
from wheelbuild.plan import Job
from wheelbuild.record import BuildRecord

CELL = Cell.parse("cp311-torch2.11-cu130-linux_x86_64")
REF = "6424da3b" + "0" * 32
VERSION = "0.1+20260708.cu130.torch2.11"


def make_job(**changes: Any) -> Job:
    job = Job(
        cell=CELL,
        distribution="apex",
        package="apex",
        torch_release="2.11.0",
        torch="2.11.0+cu130",
        torch_index="https://pypi.org/simple",
        git_url="https://example.invalid/apex.git",
        ref=REF,
        ref_name="26.07",
        version=VERSION,
        build_tag=0,
        suffix="",
        modules=("tiny_c",),
        architectures=Architectures.parse("9.0"),
        policy="manylinux_2_28",
        cxx11_abi=True,
        requires=("torch==2.11.*", "packaging>20.6"),
        argv=(),
        environment={"APEX_CPP_EXT": "1"},
        cpu_seconds=1.0,
        recipe_digest="0" * 64,
        why="a test",
    )
    return replace(job, **changes)


def make_request(**changes: Any) -> BuildRequest:
    request = BuildRequest(
        source="src",
        interpreter="/usr/bin/python3",
        distribution="apex",
        package="apex",
        version=VERSION,
        cell=CELL.label,
        torch="2.11.0+cu130",
        modules=("tiny_c",),
        architectures="9.0",
        work="work",
        environment={"APEX_CPP_EXT": "1"},
        requires=("torch==2.11.*", "packaging>20.6"),
        requires_python=">=3.11",
        record={
            "suffix": "",
            "recipe_digest": "0" * 64,
            "ref": REF,
            "source": "pinned",
            "torch_git": "1" * 40,
            "cxx11_abi": True,
            "cuda": "13.0",
            "nvcc": "13.0.88",
            "gcc": "12.2.0",
            "python": "3.11.7",
        },
    )
    return replace(request, **changes)


def make_record(**changes: Any) -> BuildRecord:
    record = BuildRecord(
        cell=CELL.label,
        suffix="",
        recipe_digest="0" * 64,
        ref=REF,
        source="pinned",
        torch="2.11.0+cu130",
        torch_git="1" * 40,
        cxx11_abi=True,
        cuda="13.0",
        nvcc="13.0.88",
        gcc="12.2.0",
        python="3.11.7",
        architectures="9.0",
        asked=("tiny_c",),
        argv=(),
        environment={"APEX_CPP_EXT": "1"},
        modules=(make_module("tiny_c"),),
        floors={"GLIBC": "2.17"},
        symbols_digest="0" * 64,
    )
    return replace(record, **changes)


def make_module(name: str, *, machine_code: tuple[str, ...] = ("9.0",)) -> Module:
    file = f"{name}.cpython-311-x86_64-linux-gnu.so"
    return Module(name=name, file=file, machine_code=machine_code, ptx=(), needed=("libc.so.6",))
