"""Builds the small package of the same name as NVIDIA's, with the traps of the real one.

A C++ module and a CUDA module, both optional: asked for by `--cpp_ext` and `--cuda_ext` before the
command, or by APEX_CPP_EXT=1 and APEX_CUDA_EXT=1. Asked for nothing, it makes a wheel of Python
files alone that has the same name and version as the full one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from packaging.version import Version
from setuptools import find_packages, setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

HERE = Path(__file__).resolve().parent  # ninja needs absolute include folders


def toolkit_release(cuda_home):
    """`13.0`, as nvcc says it. A trap: needed below even where nothing of CUDA is built."""
    said = subprocess.check_output([cuda_home + "/bin/nvcc", "-V"], universal_newlines=True)
    return Version(re.search(r"release (\d+\.\d+)", said).group(1))


def wanted(option, variable):
    """A flag before the command, or a variable."""
    if option in sys.argv:
        sys.argv.remove(option)
        return True
    return os.environ.get(variable, "0") == "1"


release = toolkit_release(CUDA_HOME)
if not torch.cuda.is_available() and "TORCH_CUDA_ARCH_LIST" not in os.environ:
    os.environ["TORCH_CUDA_ARCH_LIST"] = "8.0;9.0"

ext_modules = []
if wanted("--cpp_ext", "APEX_CPP_EXT"):
    ext_modules.append(CppExtension("apex_C", ["csrc/flatten.cpp"], extra_compile_args=["-O3"]))
if wanted("--cuda_ext", "APEX_CUDA_EXT"):
    if release != Version(torch.version.cuda):
        raise RuntimeError(
            "the CUDA toolkit is {} but torch was built with {}".format(release, torch.version.cuda)
        )
    ext_modules.append(
        CUDAExtension(
            "fused_layer_norm_cuda",
            ["csrc/norm_binding.cpp", "csrc/norm_kernels.cu"],
            include_dirs=[str(HERE / "csrc")],
            extra_compile_args={"cxx": ["-O3"], "nvcc": ["-O3", "--use_fast_math"]},
        )
    )

setup(
    name="apex",
    version="0.1",
    description="A small package shaped like NVIDIA Apex, for trying a wheel farm",
    license="Apache-2.0",
    packages=find_packages(include=["apex", "apex.*"]),
    install_requires=["packaging>20.6"],
    ext_modules=ext_modules,
    cmdclass={"build_ext": BuildExtension} if ext_modules else {},
)
