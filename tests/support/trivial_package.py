"""The small package with modules that do nothing: they compile in seconds, its own take minutes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from support.machine import SMALL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BINDING = """\
#include <Python.h>
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)
static PyModuleDef module = {PyModuleDef_HEAD_INIT, TEXT(TORCH_EXTENSION_NAME)};
PyMODINIT_FUNC JOIN(PyInit_, TORCH_EXTENSION_NAME)(void) { return PyModule_Create(&module); }
"""
SOURCES = {
    "source/csrc/flatten.cpp": BINDING,
    "source/csrc/norm_binding.cpp": BINDING,
    "source/csrc/norm_kernels.cu": "__global__ void twice(float* x) { x[threadIdx.x] *= 2; }\n",
    "tests/apex_C.py": 'print(\'{"passed": 1, "failed": 0, "seconds": 0}\')\n',
}
_PYTHONS = 'pythons = ["cp310", "cp311", "cp312", "cp313"]'


def write_trivial_data(folder: Path, *, tag: str, sources: Mapping[str, str] | None = None) -> Path:
    """A data folder whose cells are those of one Python, for one architecture."""
    shutil.copytree(SMALL, folder)
    for name, content in {**SOURCES, **(sources or {})}.items():
        path = folder / "recipes/apex" / name
        assert path.is_file()
        path.write_text(content)
    matrix = folder / "matrix.toml"
    cells, exclusions, others = matrix.read_text().partition("[[exclusions]]")
    assert cells.count(_PYTHONS) == 2
    one = cells.replace(_PYTHONS, f'pythons = ["{tag}"]')
    matrix.write_text(f"{one}{exclusions}{others}".replace('"8.0;9.0+PTX"', '"9.0"'))
    return folder
