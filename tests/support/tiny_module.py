"""A wheel with one real extension module: a few lines of C, compiled by this machine's cc."""

from __future__ import annotations

import subprocess
import sysconfig
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
#include <Python.h>
#include <unistd.h>
%(declaration)s
static PyObject *f(PyObject *self, PyObject *args) { return PyLong_FromLong(getpid() %(use)s); }
static PyMethodDef methods[] = {{"f", f, METH_NOARGS, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "tiny_c", 0, -1, methods};
PyMODINIT_FUNC PyInit_tiny_c(void) { return PyModule_Create(&module); }
"""
LIBRARY = "int needed_elsewhere(void) { return 1; }"
VERSION = "0.1+20260708.cu130.torch2.11"
DIST_INFO = f"apex-{VERSION}.dist-info"
METADATA = f"Metadata-Version: 2.1\nName: apex\nVersion: {VERSION}\nRequires-Dist: numpy\n"


def compile_tiny(folder: Path, cc: str, *, library: str | None = None) -> Path:
    """`tiny_c…so` with symbols and a RUNPATH; with `library` it needs `lib<library>.so`."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"declaration": "", "use": ""}
    flags = [f"-Wl,-rpath,{folder}"]
    if library:
        (folder / "library.c").write_text(LIBRARY)
        shared = folder / f"lib{library}.so"
        soname = f"-Wl,-soname,{shared.name}"
        run(cc, "-shared", "-fPIC", soname, "-o", str(shared), str(folder / "library.c"))
        words = {"declaration": "int needed_elsewhere(void);", "use": "+ needed_elsewhere()"}
        flags += [f"-L{folder}", f"-l{library}"]
    source = folder / "tiny_c.c"
    source.write_text(SOURCE % words)
    module = folder / f"tiny_c{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = f"-I{sysconfig.get_path('include')}"
    run(cc, "-g", "-shared", "-fPIC", include, "-o", str(module), str(source), *flags)
    return module


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def make_tiny_wheel(folder: Path, module: Path, *, licence: bool = True) -> Path:
    """As a careless front end would: directory members, RECORD empty, today's dates."""
    tag = f"cp{sysconfig.get_config_var('py_version_nodot')}"
    wheel = folder / f"apex-{VERSION}-{tag}-{tag}-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.mkdir("apex")
        archive.writestr("apex/__init__.py", "")
        archive.write(module, module.name)
        archive.writestr(f"{DIST_INFO}/METADATA", METADATA)
        archive.writestr(
            f"{DIST_INFO}/WHEEL",
            f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}-{tag}-linux_x86_64\n",
        )
        if licence:
            archive.writestr(f"{DIST_INFO}/licenses/LICENSE", "as you like\n")
        archive.writestr(f"{DIST_INFO}/RECORD", "")
    return wheel
