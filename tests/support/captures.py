"""A small capture: two modules, one shared kernel, as torch's BuildExtension would have made it."""

from __future__ import annotations

from apex_installer.make.capture import Capture
from apex_installer.make.commands import Compile, Link

BUILD = "/b"
PYTHON_INCLUDE = "/py/include/python3.11"
INCLUDES = ("-I/torch/include", f"-I{PYTHON_INCLUDE}")


def cpp(name: str, module: str) -> Compile:
    return Compile(
        (f"/src/{name}.cpp",),
        f"{BUILD}/temp/{name}.o",
        (
            *("c++", "-MMD", "-MF", f"{BUILD}/temp/{name}.o.d", "-g", "-O3", "-fPIC", *INCLUDES),
            *("-c", "-c", f"/src/{name}.cpp", "-o", f"{BUILD}/temp/{name}.o"),
            *(f"-DTORCH_EXTENSION_NAME={module}", "-std=c++17"),
        ),
    )


def cu(name: str, module: str) -> Compile:
    return Compile(
        (f"/src/{name}.cu",),
        f"{BUILD}/temp/{name}.o",
        (
            *("/cuda/bin/nvcc", "-MD", "-MF", f"{BUILD}/temp/{name}.o.d", *INCLUDES),
            *("-c", "-c", f"/src/{name}.cu", "-o", f"{BUILD}/temp/{name}.o"),
            *("-O3", f"-DTORCH_EXTENSION_NAME={module}"),
            *("-gencode", "arch=compute_70,code=sm_70"),
        ),
    )


def link(module: str, *names: str) -> Link:
    objects = tuple(f"{BUILD}/temp/{name}.o" for name in names)
    output = f"{BUILD}/lib/{module}.cpython-311-x86_64-linux-gnu.so"
    argv = ("g++", "-g", "-shared", "-Wl,-rpath,/py/lib", *objects, "-lc10", "-o", output)
    return Link(module, objects, output, argv)


CAPTURE = Capture(
    facts={
        "torch": "2.11.0+cu130",
        "tag": "cp311",
        "platform": "linux_x86_64",
        "extension_suffix": ".cpython-311-x86_64-linux-gnu.so",
        "python_includes": [PYTHON_INCLUDE],
    },
    setup={"description": "Kernels", "python_requires": ""},
    compiles=(cpp("one", "one"), cu("one_kernel", "one"), cu("shared", "one"), cpp("two", "two")),
    links=(link("one", "one", "one_kernel", "shared"), link("two", "two", "shared")),
    python_tree=f"{BUILD}/python",
    build=BUILD,
)
