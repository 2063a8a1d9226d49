"""A farm whose cells take seconds: real steps, a torch of a few files, compilers of a few lines.

The compilers are shell: they note when they start and end, and copy a module that this machine's
cc made once. So everything else is real: capture, graph, objects, front end, auditwheel, the
install by apex-install, the index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import packaging
import setuptools

from apex_installer.make.toolkit import NEEDED
from support.fake_build import _CPP_EXTENSION, _TORCH, NVCC
from support.machine import SMALL
from support.tiny_fatbin import fatbin
from support.tiny_module import SOURCE
from support.tiny_pod import make_venv, site_packages, write_torch
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE = "fused_layer_norm_cuda"
SOURCES = ("one.cpp", "two.cpp", "three.cpp")
SETUP = """\
import sysconfig
from distutils.ccompiler import new_compiler
from pathlib import Path
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

class Build(build_ext):
    def run(self):
        compiler, objects = new_compiler(), []
        for name in %r:
            source, out = str(Path("csrc", name).resolve()), self.build_temp + "/" + name + ".o"
            compiler.spawn(["c++", "-MD", "-MF", out + ".d", "-c", source, "-o", out])
            objects.append(out)
        module = "fused_layer_norm_cuda" + sysconfig.get_config_var("EXT_SUFFIX")
        compiler.spawn(["c++", "-shared", *objects, "-o", self.build_lib + "/" + module])

setup(
    name="apex", version="0.1", packages=find_packages(include=["apex", "apex.*"]),
    ext_modules=[Extension("fused_layer_norm_cuda", [])], cmdclass={"build_ext": Build},
)
"""
COMPILER = """\
#!/bin/sh
case $1 in
  --version) echo 'g++ (Debian 12.2.0-14) 12.2.0'; echo 'Free Software Foundation, Inc.'; exit ;;
  -dumpfullversion) echo 12.2.0; exit ;;
  -print-prog-name=*) echo nothing; exit ;;
esac
source= out= depfile=
while [ $# -gt 0 ]; do
  case $1 in
    -MF) depfile=$2; shift ;;
    -c) source=$2; shift ;;
    -o) out=$2; shift ;;
  esac
  shift
done
name=${source##*/}
[ -z "$out" ] || echo "start ${name:-link} ${out##*/}" >>"$HOME/compilers"
sleep 0.2
[ -z "$depfile" ] || echo "$out: $source" >"$depfile"
case $out in
  *.o) cat "$source" >"$out" ;;
  *) cp "$HOME/${out##*/}" "$out" ;;
esac
"""
_ASK = "import sysconfig as s; print(s.get_config_var('EXT_SUFFIX'), s.get_path('include'))"
_DEVICE_CODE = """
__attribute__((section(".nv_fatbin"), aligned(8))) volatile unsigned char device_code[] = {%s};
"""
TEST = """\
import json
import sys
del sys.path[0]  # this file has the module's name
import torch
import fused_layer_norm_cuda
print(json.dumps({"passed": int(fused_layer_norm_cuda.f() > 0), "failed": 0, "seconds": 0.0}))
"""


@dataclass(frozen=True)
class QuickFarm:
    """Its folder; one cell per Python."""

    folder: Path
    pythons: Mapping[str, str]
    """Tag -> interpreter."""

    def prepare(self) -> QuickFarm:
        """Data, compilers, and per Python an environment where the farm would have made one."""
        self._write_data()
        self._write_tools()
        for tag, python in self.pythons.items():
            _write_environment(self.folder / f"cache/environments/{tag}-torch2.11.0+cu130", python)
            self._compile(tag, python)
        return self

    @property
    def environ(self) -> dict[str, str]:
        """Of every run. HOME is the compilers' notebook, since a build keeps few variables."""
        tools = f"{self.folder / 'tools'}:{os.environ['PATH']}"
        return {**os.environ, "PATH": tools, "HOME": str(self.folder), "CUDA_HOME": self._cuda}

    @property
    def _cuda(self) -> str:
        return str(self.folder / "cuda")

    @property
    def command(self) -> list[str]:
        words = [sys.executable, "-m", "wheelbuild", "--data", str(self.folder / "data"), "--json"]
        words += ["--cache", str(self.folder / "cache"), "run", *self.cells, "--only", MODULE]
        words += ["--arch", "9.0", "--jobs", "2"]
        return [*words, "--index", str(self.folder / "index")]

    @property
    def cells(self) -> list[str]:
        """Labels, in the order in which they are built."""
        return [f"{tag}-torch2.11-cu130-linux_x86_64" for tag in self.pythons]

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder / "index")

    def starts(self) -> list[str]:
        """What compilers were started since the last time: `one.cpp one.cpp.o`."""
        notes = self.folder / "compilers"
        lines = notes.read_text().splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return [line.removeprefix("start ") for line in lines]

    def forget(self) -> None:
        """As before the first run."""
        for name in ("cache/work", "cache/objects", "index"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.starts()

    def _write_data(self) -> None:
        data = self.folder / "data"
        shutil.copytree(SMALL, data)
        matrix = data / "matrix.toml"
        quoted = ", ".join(f'"{tag}"' for tag in self.pythons)
        text = matrix.read_text()
        all_pythons = 'pythons = ["cp310", "cp311", "cp312", "cp313"]'
        text = text.replace(all_pythons, f"pythons = [{quoted}]", 1)
        matrix.write_text(text)
        (data / "recipes/apex/tests/fused_layer_norm_cuda.py").write_text(TEST)
        source = data / "recipes/apex/source"
        (source / "setup.py").write_text(SETUP % (SOURCES,))
        for name in SOURCES:
            (source / "csrc" / name).write_text(f"// {name}\n")

    def _write_tools(self) -> None:
        for name in ("c++", "g++", "gcc"):
            _write_program(self.folder / "tools" / name, COMPILER)
        _write_program(self.folder / "cuda/bin/nvcc", f"#!/bin/sh\n{NVCC}")
        for name in NEEDED:
            path = self.folder / "cuda" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            limit = "#if __GNUC__ > 15\n"
            path.write_text(limit if name.endswith("host_config.h") else "")

    def _compile(self, tag: str, python: str) -> None:
        """The module that the compilers of shell hand out, once per Python."""
        asked = [python, "-c", _ASK]
        said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
        code = ", ".join(map(str, fatbin("9.0")))
        words = {"declaration": _DEVICE_CODE % code, "use": "+ 0 * device_code[0]"}
        source = self.folder / f"{tag}.c"
        source.write_text((SOURCE % words).replace("tiny_c", MODULE))
        out = self.folder / f"{MODULE}{said[0]}"
        command = ["gcc", "-shared", "-fPIC", f"-I{said[1]}", "-o", str(out), str(source)]
        subprocess.run(command, check=True)


def _write_environment(folder: Path, python: str) -> None:
    make_venv(folder, python=python)
    packages = site_packages(folder)
    tag = folder.name.partition("-")[0]
    write_torch(packages, suffix=f".cpython-{tag[2:]}-x86_64-linux-gnu.so")
    torch = packages / "torch"
    (torch / "__init__.py").write_text(_TORCH)
    (torch / "utils").mkdir()
    (torch / "utils/__init__.py").write_text("")
    (torch / "utils/cpp_extension.py").write_text(_CPP_EXTENSION)
    for pattern in ("setuptools*", "_distutils_hack", "distutils-precedence.pth"):
        for one in Path(setuptools.__file__).parent.parent.glob(pattern):
            (packages / one.name).symlink_to(one)
    (packages / "packaging").symlink_to(Path(packaging.__file__).parent)
    (folder / "complete").write_text("2.11.0+cu130\n")


def _write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
