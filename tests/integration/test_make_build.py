"""The one build path with the real torch, nvcc and g++, on a source of a few lines."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import CompileError, ToolkitError
from apex_installer.make.build import Built, build_wheel
from apex_installer.make.request import BuildRequest
from apex_installer.read.fatbin import read_architectures

if TYPE_CHECKING:
    from support.torch_environments import TorchEnvironment

pytestmark = [pytest.mark.integration, pytest.mark.compile]

# Flags by argv, one hard-coded architecture, a package beside a folder of tests.
SETUP = """\
import sys
from setuptools import find_packages, setup
import torch
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension
import os
here = os.path.dirname(os.path.abspath(__file__))
modules = []
if "--cuda_ext" in sys.argv:
    sys.argv.remove("--cuda_ext")
    modules = [
        CUDAExtension("tiny_cuda", [here + "/tiny.cpp", here + "/kernel.cu"],
                      extra_compile_args={"nvcc": ["-gencode", "arch=compute_80,code=sm_80"]}),
        CUDAExtension("tiny_bound", [here + "/bound.cu"]),
    ]
setup(name="tiny", version="0.1", description="A tiny\\npackage", packages=find_packages(),
      package_data={"tiny": ["*.txt"]}, ext_modules=modules,
      cmdclass={"build_ext": BuildExtension})
"""
MODULE = """\
#include <Python.h>
%s
static PyObject* answer(PyObject*, PyObject*) { return PyLong_FromLong(%s); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {nullptr, nullptr, 0, ""}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "%s", "", -1, methods};
PyMODINIT_FUNC PyInit_%s() { return PyModule_Create(&module); }
"""
KERNEL = """\
__global__ void fill(int* p) { p[threadIdx.x] = 1; }
extern "C" void* kernel_address() { return (void*)fill; }
"""
FILES = {
    "setup.py": SETUP,
    "tiny.cpp": MODULE
    % ('extern "C" void* kernel_address();', "kernel_address() ? 42 : 0", "tiny_cuda", "tiny_cuda"),
    "kernel.cu": KERNEL,
    "bound.cu": "__global__ void g() {}\n" + MODULE % ("", "7", "tiny_bound", "tiny_bound"),
    "tiny/__init__.py": "",
    "tiny/words.txt": "words",
    "tests/__init__.py": "",
    "LICENSE": "licence",
}


@pytest.fixture(scope="module")
def request_(
    torch_211: TorchEnvironment, cuda_130: Path, tmp_path_factory: pytest.TempPathFactory
) -> BuildRequest:
    source = tmp_path_factory.mktemp("source")
    for name, text in FILES.items():
        path = source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    tag = json.loads(_said(torch_211.build_python, "import sys; print(list(sys.version_info[:2]))"))
    return BuildRequest(
        source=str(source),
        interpreter=str(torch_211.build_python),
        distribution="tiny",
        package="tiny",
        version="0.1+20260708.cu130.torch2.11",
        cell=f"cp{tag[0]}{tag[1]}-torch2.11-cu130-linux_x86_64",
        torch="2.11.0+cu130",
        modules=("tiny_cuda", "tiny_bound"),
        architectures="9.0+PTX",
        work=str(tmp_path_factory.mktemp("work")),
        argv=("--cuda_ext",),
        toolkit=str(cuda_130),
        strip=True,
    )


def _said(python: Path, code: str, *, path: Path | None = None) -> str:
    environ = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(
        [str(python), "-c", code], env=environ, capture_output=True, text=True, check=True
    ).stdout


def make(request: BuildRequest, folder: Path) -> Built:
    return build_wheel(
        request, out=str(folder), log=str(folder / "log"), on_progress=lambda _: None
    )


@pytest.fixture(scope="module")
def built(request_: BuildRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    before = digests(Path(request_.source))
    made = make(request_, tmp_path_factory.mktemp("out"))
    assert digests(Path(request_.source)) == before, "the source was written to"
    return made


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_wheel_runs_where_it_was_built_for(
    built: Built, torch_211: TorchEnvironment, tmp_path: Path
) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if "dist-info" not in name}
        wheel.extractall(tmp_path)
    suffix = next(name for name in names if name.startswith("tiny_cuda"))[len("tiny_cuda") :]
    assert names == {
        *(f"tiny_cuda{suffix}", f"tiny_bound{suffix}", "tiny/__init__.py", "tiny/words.txt")
    }
    code = (
        "import torch, tiny, tiny_cuda, tiny_bound; print(tiny_cuda.answer(), tiny_bound.answer())"
    )
    assert _said(torch_211.build_python, code, path=tmp_path) == "42 7\n"


def test_machine_code_is_for_what_was_asked_not_for_what_was_hard_coded(built: Built) -> None:
    for path in built.modules.values():
        assert read_architectures(path).text == "9.0+PTX"


def test_device_code_reads_python_h_only_where_it_must(built: Built) -> None:
    objects = {one["label"]: one for one in built.account["objects"]}
    kernel, bound = objects["tiny_cuda: kernel.cu"], objects["tiny_bound: bound.cu"]
    assert (kernel["as_captured"], kernel["reads_python"]) == (False, False)
    assert (bound["as_captured"], bound["reads_python"]) == (True, True)
    assert not [part for part in kernel["command"] if "/python3." in part and "torch" not in part]


def test_the_timeline_holds_every_step_and_what_it_took(built: Built) -> None:
    kinds = sorted(step["kind"] for step in built.timeline)
    assert kinds == ["cpp", "cuda", "cuda", "link", "link"]
    assert all(step["cpu_seconds"] > 0 and step["peak_bytes"] > 0 for step in built.timeline)
    assert 0 < built.account["longest_chain"] <= built.seconds
    assert built.cpu_seconds > sum(step["cpu_seconds"] for step in built.timeline)


def test_nothing_changed_starts_no_compiler_and_gives_the_same_bytes(
    built: Built, request_: BuildRequest, tmp_path: Path
) -> None:
    again = make(request_, tmp_path)
    assert again.timeline == ()
    assert Path(again.wheel).read_bytes() == Path(built.wheel).read_bytes()


def test_one_line_changed_makes_one_object_and_one_link(
    built: Built, request_: BuildRequest, tmp_path: Path
) -> None:
    del built  # only that it was
    kernel = Path(request_.source) / "kernel.cu"
    kernel.write_text(KERNEL.replace("= 1", "= 2"), encoding="utf-8")
    try:
        steps = [step["label"] for step in make(request_, tmp_path).timeline]
    finally:
        kernel.write_text(KERNEL, encoding="utf-8")
    assert steps == ["tiny_cuda: kernel.cu", "tiny_cuda: link"]


def test_only_the_asked_modules_are_made(request_: BuildRequest, tmp_path: Path) -> None:
    made = make(replace(request_, modules=("tiny_bound",)), tmp_path)
    assert list(made.modules) == ["tiny_bound"]


def test_an_error_of_the_source_is_shown_with_file_and_line(
    request_: BuildRequest, tmp_path: Path
) -> None:
    kernel = Path(request_.source) / "kernel.cu"
    kernel.write_text(KERNEL.replace("= 1", "= undeclared"), encoding="utf-8")
    try:
        with pytest.raises(CompileError) as failed:
            make(request_, tmp_path)
    finally:
        kernel.write_text(KERNEL, encoding="utf-8")
    assert f'{kernel}:1: identifier "undeclared" is undefined' in str(failed.value)


def test_another_torch_than_the_cell_s_is_refused(request_: BuildRequest, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"has torch 2\.11\.0\+cu130, but .* against 2\.10\.0"):
        make(replace(request_, torch="2.10.0+cu130"), tmp_path)


def test_an_error_of_setup_py_is_its_exception(request_: BuildRequest, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="does not make tiny_bound, tiny_cuda with these flags"):
        make(replace(request_, argv=()), tmp_path)
    with pytest.raises(CompileError, match=r"setup\.py: .*error: option --unknown not recogni"):
        make(replace(request_, argv=("--unknown",)), tmp_path)


def test_all_that_the_machine_lacks_is_named_at_once(
    request_: BuildRequest, tmp_path: Path
) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    with pytest.raises(ToolkitError) as refused:
        build_wheel(
            replace(request_, toolkit=str(tmp_path)),
            out=str(tmp_path),
            log=str(tmp_path / "log"),
            environ={"PATH": str(empty)},
        )
    said = str(refused.value)
    assert f"--toolkit ({tmp_path}) has no bin/nvcc that runs" in said
    assert "no g++ (c++ and g++ not found): apt-get install g++" in said


def test_each_architecture_gets_a_wheel_without_a_compile(
    request_: BuildRequest, torch_211: TorchEnvironment, tmp_path: Path
) -> None:
    several = replace(request_, architectures="8.0;9.0+PTX")
    plain = make(several, tmp_path / "plain")
    both = make(replace(several, variants=("8.0", "9.0")), tmp_path / "both")
    assert both.timeline == ()
    assert Path(both.wheel).read_bytes() == Path(plain.wheel).read_bytes()
    for arch in ("8.0", "9.0"):
        folder = Path(request_.work) / "variants" / arch
        (wheel,) = folder.glob("*.whl")
        assert wheel.name == Path(plain.wheel).name
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "files")
        for module in (folder / "files").glob("*.so"):
            assert read_architectures(str(module)).text == arch
        code = "import torch, tiny_cuda, tiny_bound; print(tiny_cuda.answer(), tiny_bound.answer())"
        assert _said(torch_211.build_python, code, path=folder / "files") == "42 7\n"
    make(several, tmp_path / "again")
    assert not (Path(request_.work) / "variants").exists()
