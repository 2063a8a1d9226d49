"""A build that a tiny pod can do in a second: a torch to capture with, a toolkit, a source.

nvcc and c++ are a few lines of shell; what they make is a module that the tiny torch loads. So
what goes wrong in a compile can be played without a compiler, fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import packaging
import setuptools

from apex_installer.make.toolkit import NEEDED
from support.tiny_pod import module_bytes

if TYPE_CHECKING:
    from support.start_pod import StartPod

_TORCH = """\
from torch import version
__version__ = version.__version__
class _C:
    _GLIBCXX_USE_CXX11_ABI = True
"""
_CPP_EXTENSION = """\
import os
CUDA_HOME = os.environ.get("CUDA_HOME")
def _run_ninja_build(build_directory, *args, **options): raise AssertionError
def _write_ninja_file_and_compile_objects(*args, **options): raise AssertionError
"""
SETUP = """\
import sysconfig
from distutils.ccompiler import new_compiler
from pathlib import Path
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from torch.utils.cpp_extension import CUDA_HOME

class Build(build_ext):
    def run(self):
        compiler = new_compiler()
        objects = []
        for tool, name in ((CUDA_HOME + "/bin/nvcc", "one.cu"), ("c++", "two.cpp")):
            source = str(Path("csrc", name).resolve())
            objects.append(self.build_temp + "/" + name + ".o")
            compiler.spawn([tool, "-c", source, "-o", objects[-1]])
        module = "fused_layer_norm_cuda" + sysconfig.get_config_var("EXT_SUFFIX")
        compiler.spawn(["c++", "-shared", *objects, "-o", self.build_lib + "/" + module])

setup(
    name="apex", version="0.1", packages=["apex"],
    ext_modules=[Extension("fused_layer_norm_cuda", [])], cmdclass={"build_ext": Build},
)
"""
_COMPILE = """\
while [ $# -gt 0 ]; do case $1 in -o) out=$2 ;; esac; shift; done
"""
NVCC = """\
case $1 in -V | --version) echo "Cuda compilation tools, release 13.0, V13.0.88"; exit ;; esac
"""
"""How a compiler says that it is CUDA 13.0's."""
CXX = (
    "case $1 in --version) echo 'g++ (Debian 12.2.0-14) 12.2.0'; "
    "echo 'Copyright (C) 2022 Free Software Foundation, Inc.'; exit ;; esac\n"
)


def prepare_build(pod: StartPod, *, seconds: float = 4.0) -> None:
    """No wheel fits any more; a compile of at most `seconds` works."""
    pod.tiny.index.rename(pod.root / "no-index")
    torch = pod.target / "torch"
    (torch / "__init__.py").write_text(_TORCH)
    (torch / "utils").mkdir()
    (torch / "utils/__init__.py").write_text("")
    (torch / "utils/cpp_extension.py").write_text(_CPP_EXTENSION)
    site = Path(setuptools.__file__).parent.parent
    for pattern in ("setuptools*", "_distutils_hack", "distutils-precedence.pth"):
        for one in site.glob(pattern):
            (pod.target / one.name).symlink_to(one)
    if not (pod.target / "packaging").exists():
        (pod.target / "packaging").symlink_to(Path(packaging.__file__).parent)
    source = pod.root / "source"
    for name in ("setup.py", "csrc/one.cu", "csrc/two.cpp", "apex/__init__.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    (source / "setup.py").write_text(SETUP)
    home = pod.root / "cuda"
    for name in NEEDED:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("#if __GNUC__ > 15\n" if name.endswith("host_config.h") else "")
    write_nvcc(pod, make(pod))
    pod.write_tool("c++", CXX + make(pod))
    pod.set(
        CUDA_HOME=str(home),
        APEX_INSTALL_SOURCE=str(source),
        APEX_INSTALL_PYPI_URL="http://127.0.0.1:9/",  # nothing is fetched from beyond this machine
        APEX_INSTALL_CUDA_MIRROR="http://127.0.0.1:9/",
        APEX_INSTALL_COMPILE_TIMEOUT=str(seconds),
    )


def make(pod: StartPod) -> str:
    """The script that makes what it is asked for."""
    made = pod.root / "made.so"
    made.write_bytes(module_bytes("9.0"))
    return f'{_COMPILE}cp "{made}" "$out"'


def write_nvcc(pod: StartPod, script: str, *, says: str = NVCC) -> None:
    """It says that it is CUDA 13.0's; then comes the script."""
    path = pod.root / "cuda/bin/nvcc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{says}{script}\n")
    path.chmod(0o755)
