"""Small modules over torch, compiled by g++ alone: what the symbol check is tried on."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from support.torch_environments import lock

if TYPE_CHECKING:
    from support.torch_environments import TorchEnvironment

_PLAIN = """
#include <Python.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <iostream>
#include <map>
@INCLUDE@
static at::Tensor twice(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.dim() > 0, "no dimension: ", tensor.dim());
  std::cout << tensor.sizes() << std::endl;
  std::map<std::string, int> seen{{"twice", 1}};
  return at::add(tensor, tensor, seen.at("twice"));
}
static PyObject* run(PyObject*, PyObject*) {
  try {
    at::Tensor tensor = at::empty({2, 3});
    @USE@
    return PyLong_FromLong(twice(tensor).contiguous().data_ptr<float>() != nullptr);
  } catch (const c10::Error& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
}
static PyMethodDef methods[] = {{"run", run, METH_NOARGS, nullptr}, {nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "@NAME@", nullptr, -1, methods};
PyMODINIT_FUNC PyInit_@NAME@() { return PyModule_Create(&definition); }
"""
_CUDA_INCLUDE = """
// By hand: CUDA's own headers need parts that torch does not bring.
extern "C" int cudaDeviceSynchronize();
namespace c10::cuda { c10::DeviceIndex device_count() noexcept; }
namespace at::cuda { int warp_size(); }
"""
_CUDA_USE = """
    if (c10::cuda::device_count() > 0 && cudaDeviceSynchronize()) return nullptr;
    if (c10::cuda::device_count() > 0 && at::cuda::warp_size() != 32) return nullptr;
"""
_LIBRARIES = ("-lc10", "-ltorch", "-ltorch_cpu", "-ltorch_python")
_CUDA_LIBRARIES = ("-lc10_cuda", "-ltorch_cuda")


def compile_plain(torch: TorchEnvironment, *, cxx: str, cache: Path) -> Path:
    """A C++ module against this torch; about 10 s the first time."""
    source = _source("probe_plain", include="", use="")
    return _compile("probe_plain", source, torch, flags=(cxx, *_LIBRARIES), cache=cache)


def compile_cuda(torch: TorchEnvironment, *, cxx: str, cache: Path) -> Path:
    """One that uses torch's CUDA libraries and the CUDA runtime too; no nvcc, no device code."""
    nvidia = torch.site_packages / "nvidia"
    (runtime,) = nvidia.glob("*/lib/libcudart.so.*")
    source = _source("probe_cuda", include=_CUDA_INCLUDE, use=_CUDA_USE)
    flags = (cxx, *_LIBRARIES, *_CUDA_LIBRARIES, str(runtime))
    return _compile("probe_cuda", source, torch, flags=flags, cache=cache)


def _source(name: str, *, include: str, use: str) -> str:
    return _PLAIN.replace("@NAME@", name).replace("@INCLUDE@", include).replace("@USE@", use)


def _compile(
    name: str, source: str, torch: TorchEnvironment, *, flags: tuple[str, ...], cache: Path
) -> Path:
    cxx, *rest = flags
    folder = torch.site_packages / "torch"
    abi = "0" if torch.version.startswith("2.6.") else "1"
    asked = (
        "import sysconfig; print(sysconfig.get_path('include'), sysconfig.get_config_var("
        "'EXT_SUFFIX'))"
    )
    include, suffix = _run(str(torch.python), "-c", asked).split()
    digest = hashlib.sha256(repr((source, flags, abi, include, suffix)).encode()).hexdigest()[:16]
    place = cache / "test-modules" / digest
    module = place / f"{name}_{torch.version.replace('.', '')}{suffix}"
    with lock(cache / "test-modules" / f"{digest}.lock"):
        if module.is_file():
            return module
        place.mkdir(parents=True, exist_ok=True)
        code = place / f"{name}.cpp"
        code.write_text(source, encoding="utf-8")
        part = module.with_suffix(".part")
        options = ("-shared", "-fPIC", "-O0", "-w", "-std=c++17", f"-D_GLIBCXX_USE_CXX11_ABI={abi}")
        includes = (f"-I{folder}/include", f"-I{include}")
        paths = (f"-L{folder}/lib", "-Wl,--no-as-needed")
        _run(cxx, *options, *includes, str(code), "-o", str(part), *paths, *rest)
        part.replace(module)
    return module


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()
