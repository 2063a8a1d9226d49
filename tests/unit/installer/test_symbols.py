"""The symbol check on a process of tiny files: scopes, versions, search order, refusals' words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import CheckError
from apex_installer.model.environment import Interpreter, Torch
from apex_installer.read import process
from apex_installer.read.blame import library_for
from apex_installer.read.demangle import demangle
from apex_installer.read.symbols import MissingSymbol, check_symbols
from support.tiny_elf import TinyElf

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".cpython-310-x86_64-linux-gnu.so"
THROW = "_ZN3c105ErrorC1ENS_14SourceLocationE"


@dataclass(frozen=True)
class Pod:
    """An interpreter with a torch, both tiny."""

    root: Path

    @property
    def lib(self) -> Path:
        return self.root / "site-packages/torch/lib"

    def check(self, **environ: str) -> list[str]:
        """The lines for the module that `module` wrote."""
        interpreter = Interpreter(
            executable=str(self.root / "bin/python"),
            tag="cp310",
            version="3.10.13",
            platform="linux_x86_64",
            extension_suffix=SUFFIX,
            path=(str(self.root / "site-packages"),),
            purelib=str(self.root / "site-packages"),
        )
        torch = Torch(str(self.lib.parent), "2.4.0+cu121", "", "12.1", cxx11_abi=False)
        found = check_symbols(
            [str(self.root / "m.so")], interpreter=interpreter, torch=torch, environ=environ
        )
        return [missing.line for missing in found]

    def module(self, made: TinyElf) -> None:
        made.write(self.root / "m.so")


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """python -> libpython; torch: global_deps -> libcudart, _C -> libtorch_python -> libc10.

    The libraries of the machine that runs the test are out of sight: it may have a CUDA.
    """
    monkeypatch.setattr(process, "read_cache", lambda _machine: {})
    monkeypatch.setattr(process, "default_folders", lambda _machine: ())
    pod = Pod(tmp_path)
    lib, python = pod.lib, tmp_path / "lib/libpython3.10.so.1.0"
    TinyElf(needed=(python.name,), runpath="$ORIGIN/../lib").write(tmp_path / "bin/python")
    TinyElf(soname=python.name, defines=("PyModule_Create2",)).write(python)
    cudart = TinyElf(soname="libcudart.so.12", defines=("cudaMalloc@libcudart.so.12",))
    cudart.write(tmp_path / "site-packages/nvidia/cuda_runtime/lib/libcudart.so.12")
    TinyElf(needed=("libcudart.so.12",), rpath="$ORIGIN/../../nvidia/cuda_runtime/lib").write(
        lib / "libtorch_global_deps.so"
    )
    TinyElf(needed=("libtorch_python.so",), rpath="$ORIGIN/lib").write(lib.parent / f"_C{SUFFIX}")
    TinyElf(soname="libtorch_python.so", needed=("libc10.so",), rpath="$ORIGIN").write(
        lib / "libtorch_python.so"
    )
    TinyElf(soname="libc10.so", defines=(THROW,)).write(lib / "libc10.so")
    return pod


def test_a_module_that_fits(pod: Pod) -> None:
    pod.module(
        TinyElf(
            needed=("libc10.so",),
            undefined=(THROW, "PyModule_Create2", "cudaMalloc@libcudart.so.12:libcudart.so.12"),
            weak=("nowhere",),
            never_looked_up=("nor_there",),
        )
    )
    assert pod.check() == []


def test_a_symbol_that_nobody_defines_is_named_with_who_should_have_had_it(pod: Pod) -> None:
    pod.module(TinyElf(needed=("libc10.so",), undefined=("_ZN3c105Error3newEv",)))
    owner = "libc10.so of torch 2.4.0+cu121 does not define it"
    assert pod.check() == [f"m.so: undefined symbol c10::Error::new(): {owner}"]


def test_a_library_that_torch_loaded_for_itself_serves_only_who_needs_it(pod: Pod) -> None:
    """libc10 is in the process, but not in the global scope."""
    pod.module(TinyElf(undefined=(THROW,)))
    assert len(pod.check()) == 1


def test_a_dependency_s_dependency_serves_too(pod: Pod) -> None:
    pod.module(TinyElf(needed=("libtorch_python.so",), undefined=(THROW,)))
    assert pod.check() == []


def test_a_version_that_the_library_lacks(pod: Pod) -> None:
    pod.module(TinyElf(needs=("libcudart.so.13:libcudart.so.12",)))
    assert pod.check() == ["m.so needs libcudart.so.13, which libcudart.so.12 here does not define"]


def test_a_version_need_of_a_library_that_is_not_loaded(pod: Pod) -> None:
    """The loader ends the process in an assertion."""
    pod.module(TinyElf(needs=("V_1:libnone.so",)))
    assert pod.check() == ["m.so needs V_1, which libnone.so here does not define"]


def test_a_library_of_another_cuda_is_named_with_the_one_that_is_there(pod: Pod) -> None:
    pod.module(TinyElf(needed=("libcudart.so.13",), needs=("libcudart.so.13:libcudart.so.13",)))
    assert pod.check() == [
        "m.so needs libcudart.so.13, which is not found; here is libcudart.so.12"
    ]


def test_a_library_that_the_module_brings_along_is_checked_too(pod: Pod) -> None:
    pod.module(TinyElf(needed=("libmine.so",), runpath="$ORIGIN/mine"))
    TinyElf(soname="libmine.so", undefined=("gone",)).write(pod.root / "mine/libmine.so")
    assert pod.check() == ["libmine.so: undefined symbol gone: no library defines it"]


def test_a_runpath_serves_the_file_itself_and_an_rpath_its_dependencies_too(pod: Pod) -> None:
    TinyElf(soname="libone.so", needed=("libtwo.so",)).write(pod.root / "mine/libone.so")
    TinyElf(soname="libtwo.so").write(pod.root / "mine/libtwo.so")
    pod.module(TinyElf(needed=("libone.so",), runpath="$ORIGIN/mine"))
    assert pod.check() == ["libone.so needs libtwo.so, which is not found"]
    pod.module(TinyElf(needed=("libone.so",), rpath="$ORIGIN/mine"))
    assert pod.check() == []


def test_library_path_and_preloads_of_the_app_count(pod: Pod) -> None:
    library = TinyElf(soname="libmine.so", defines=("f",)).write(pod.root / "mine/libmine.so")
    pod.module(TinyElf(needed=("libmine.so",), undefined=("f",)))
    assert pod.check(LD_LIBRARY_PATH=str(library.parent)) == []
    pod.module(TinyElf(undefined=("f",)))
    assert pod.check(LD_PRELOAD=str(library)) == []
    assert len(pod.check()) == 1


def test_a_file_for_another_machine_is_passed_over_in_the_search(pod: Pod) -> None:
    TinyElf(soname="libmine.so", machine=183).write(pod.root / "arm/libmine.so")
    TinyElf(soname="libmine.so").write(pod.root / "mine/libmine.so")
    pod.module(TinyElf(needed=("libmine.so",), runpath="$ORIGIN/arm:$ORIGIN/mine"))
    assert pod.check() == []


def test_cuda_libraries_that_torch_opens_by_file_are_there_by_name(pod: Pod) -> None:
    (pod.lib.parent / "__init__.py").write_text(
        '_preload = [\n    ("cusolver", "libcusolver.so.*[0-9]"),\n]\n'
    )
    nvidia = pod.root / "site-packages/nvidia"
    TinyElf(soname="libcusolver.so.11").write(nvidia / "cusolver/lib/libcusolver.so.11")
    TinyElf(soname="libcusparse.so.12").write(nvidia / "cusparse/lib/libcusparse.so.12")
    pod.module(TinyElf(needed=("libcusolver.so.11", "libcusparse.so.12")))
    assert pod.check() == ["m.so needs libcusparse.so.12, which is not found"]


def test_a_module_of_another_machine_is_refused(pod: Pod) -> None:
    pod.module(TinyElf(machine=183))
    with pytest.raises(CheckError, match=r"m\.so: is for another machine than x86_64"):
        pod.check()


def test_modules_are_checked_apart(pod: Pod) -> None:
    """What the first one brings is not there for the second."""
    TinyElf(soname="libmine.so", defines=("f",)).write(pod.root / "mine/libmine.so")
    first = TinyElf(needed=("libmine.so",), undefined=("f",), runpath="$ORIGIN/mine")
    second = TinyElf(undefined=("f",))
    interpreter = Interpreter(
        str(pod.root / "bin/python"), "cp310", "3.10.13", "linux_x86_64", SUFFIX, (), ""
    )
    torch = Torch(str(pod.lib.parent), "2.4.0+cu121", "", "12.1", cxx11_abi=False)
    paths = [str(one.write(pod.root / name)) for one, name in ((first, "a.so"), (second, "b.so"))]
    found = check_symbols(paths, interpreter=interpreter, torch=torch, environ={})
    assert [(missing.module, missing.name) for missing in found] == [("b.so", "f")]


def test_the_line_of_a_versioned_symbol() -> None:
    missing = MissingSymbol("m.so", "symbol", "memcpy", "GLIBC_2.99", "libc.so.6", "2.4.0+cu121")
    assert missing.line == (
        "m.so: undefined symbol memcpy, version GLIBC_2.99: libc.so.6 does not define it"
    )


@pytest.mark.parametrize(
    ("symbol", "library"),
    [
        ("_ZN3c104cuda20getCurrentCUDAStreamEa", "libc10_cuda.so"),
        ("_ZNK3c1010TensorImpl6deviceEv", "libc10.so"),
        ("_ZTIN3c105ErrorE", "libc10.so"),
        ("_ZN2at4cuda24getCurrentCUDABlasHandleEv", "libtorch_cuda.so"),
        ("_ZN2at4_ops5empty4callEv", "libtorch_cpu.so"),
        ("_ZN5torch8autograd4NodeE", "libtorch_cpu.so"),
        ("_ZTVN10__cxxabiv120__si_class_type_infoE", "libstdc++.so.6"),
        ("_ZNK3c106IValue23reportToTensorTypeErrorEv", "libtorch_cpu.so"),
        ("_ZNK3c1010TensorType11repr_stringEv", "libtorch_cpu.so"),
        ("_ZN3c1010Dispatcher9singletonEv", "libtorch_cpu.so"),
        ("_ZN3c1017isValidDeviceTypeENS_10DeviceTypeE", "libc10.so"),
        ("_ZN6caffe28TypeMeta13typeMetaDatasEv", "libc10.so"),
        ("_ZN6caffe211editDistanceEv", "libtorch_cpu.so"),
        ("_ZN4c10d7Reducer4waitEv", "libtorch_cpu.so"),
        ("_ZN4c10d16ProcessGroupNCCL4waitEv", "libtorch_cuda.so"),
        ("_Z16THPVariable_WrapRKN2at10TensorBaseE", "libtorch_python.so"),
        ("_ZN5torch15PythonArgParser6raw_parseEv", "libtorch_python.so"),
        ("_ZN8pybind116detail11type_casterIN2at6TensorEvE4loadEv", "libtorch_python.so"),
        ("_ZNSt7__cxx1112basic_stringIcE", "libstdc++.so.6"),
        ("_ZNSs4sizeEv", "libstdc++.so.6"),
        ("_Znwm", "libstdc++.so.6"),
        ("THPVariableClass", "libtorch_python.so"),
        ("PyModule_Create2", "the interpreter"),
        ("cudaMalloc", "libcudart.so"),
        ("cublasLtMatmul", "libcublasLt.so"),
        ("cuLaunchKernel", "libcuda.so.1"),
        ("curandCreateGenerator", "libcurand.so"),
        ("my_own", None),
        ("_Z", None),
    ],
)
def test_who_should_define_a_symbol(symbol: str, library: str | None) -> None:
    assert library_for(symbol) == library


def test_demangling_falls_back_to_the_symbol() -> None:
    assert demangle("_ZN3c105ErrorD1Ev") == "c10::Error::~Error()"
    assert demangle("_ZN3c10") == "_ZN3c10"
    assert demangle("memcpy") == "memcpy"
