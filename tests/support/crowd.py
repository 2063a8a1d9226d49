"""Pods of one kind on one volume, each a real process of the packed installer.

    crowd = Crowd(tmp_path, make_crowd_kit(folder))
    first, second = crowd.start("a"), crowd.start("b")
    first.wait().outcome, crowd.compiles(), crowd.half()

Environment, torch, toolkit and compiler are of a few lines and shared; what stands between them is
the real thing: setup.py is captured in the pod's interpreter, and a compiler of its own process
writes what it was made to write, a second later.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import setuptools

from apex_installer.model.entry import Module
from support.tiny_pod import Kit, make_kit, module_bytes, site_packages
from support.wheels import MODULE, REF, make_wheel, tiny_recipe
from wheelbuild.zipapp import pack_zipapp

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = "amp_C"
"""The module of the default set that is not required."""
ROW = {"argv": [], "environment": {}, "refs": [], "cuda_min": None, "cpu_seconds": 1.0}
RECIPE = {
    "groups": {"norm": [MODULE], "default": [MODULE, OTHER]},
    "base_version": "0.1",
    "git_url": None,
    "refs": [
        {
            "name": "newest",
            "commit": REF,
            "date": "20260708",
            "torch_min": "2.11",
            "torch_max": None,
            "flags": ["argv"],
            "cxx_standard": 17,
        }
    ],
    "modules": {MODULE: ROW, OTHER: ROW},
}
SETUP_PY = """\
import torch
from setuptools import Extension, setup

setup(
    name="apex",
    version="0.1",
    packages=["apex", "apex.normalization"],
    ext_modules=[Extension(name, [f"csrc/{name}.cpp"]) for name in MODULES],
)
"""
TORCH_PY = """\
from torch import version
from torch.version import __version__


class _C:
    _GLIBCXX_USE_CXX11_ABI = True
"""
CPP_EXTENSION_PY = """\
import os

CUDA_HOME = os.environ.get("CUDA_HOME")


def _run_ninja_build(*_args, **_options):
    raise NotImplementedError


_write_ninja_file_and_compile_objects = _run_ninja_build
"""
COMPILER = r"""#!/bin/sh
# cc --version | cc … -c source -o object | cc … objects -o module
case $1 in --version) echo "cc (Tests) 12.2.0"; echo "Free Software Foundation"; exit ;; esac
source= out= depfile=
while [ $# -gt 0 ]; do
  case $1 in
    -c) source=$2; shift ;;
    -o) out=$2; shift ;;
    -MF) depfile=$2; shift ;;
  esac
  shift
done
if [ -z "$source" ]; then cat @KIT@/module.so > "$out"; exit; fi
seconds=$(cat "@KIT@/seconds")
echo "${source##*/} $$" >> "@KIT@/compiles"
sleep "$seconds"
if [ -e @KIT@/broken ]; then echo "$source:7:1: error: 'broken' was not declared" >&2; exit 1; fi
echo object > "$out"
[ -z "$depfile" ] || echo "$out: $source" > "$depfile"
"""
NVCC = """#!/bin/sh
echo "release 13.0"
echo "#$ TOP=@KIT@/cuda"
"""
PACE = "PACE = Pace(heartbeat=5.0, expires=30.0, poll=1.0)"
QUICK = "PACE = Pace(heartbeat=0.25, expires=5.0, poll=0.1)"
"""Waiters look ten times as often, and a silent holder is given up six times as soon."""
VOLUMES = 'VOLUMES = ("/runpod-volume", "/workspace")'
MOUNT = Path("/dev/shm")  # noqa: S108 - a mount that every Linux has
CONSTANTS = {
    "apex_installer/get/lease.py": (PACE, QUICK),
    "apex_installer/get/cache.py": (VOLUMES, f'VOLUMES = ("{MOUNT}",)'),
}
"""What the tests' installer has otherwise: how patient leases are, and what outlives a pod."""


@dataclass(frozen=True)
class CrowdKit:
    """Made once: the packed installer, the environment that all pods share, the compiler."""

    folder: Path
    kit: Kit
    seconds: float

    def set(self, *, seconds: float | None = None, broken: bool = False) -> None:
        """How long the compiler takes, and whether it fails."""
        text = str(self.seconds if seconds is None else seconds)
        (self.folder / "seconds").write_text(text)
        (self.folder / "broken").unlink(missing_ok=True)
        if broken:
            (self.folder / "broken").touch()

    def compiles(self) -> list[str]:
        """`fused_layer_norm_cuda.cpp` for each start of the compiler, since the last `forget`."""
        log = self.folder / "compiles"
        return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []

    def forget(self) -> None:
        (self.folder / "compiles").unlink(missing_ok=True)


def make_crowd_kit(folder: Path, *, seconds: float = 1.0) -> CrowdKit:
    """An installer with a recipe that compiles, with a Python-only wheel, and with QUICK leases."""
    kit = make_kit(folder, **RECIPE)
    site = site_packages(kit.environment)
    (site / "torch/__init__.py").write_text(TORCH_PY)
    (site / "torch/utils").mkdir()
    (site / "torch/utils/__init__.py").touch()
    (site / "torch/utils/cpp_extension.py").write_text(CPP_EXTENSION_PY)
    tools = Path(setuptools.__file__).parent.parent
    for pattern in ("setuptools", "setuptools-*", "_distutils_hack", "pkg_resources"):
        for found in tools.glob(pattern):
            (site / found.name).symlink_to(found)
    _write_source(folder / "source")
    _write_tools(folder)
    zipapp = _pack(folder)
    made = CrowdKit(folder, Kit(zipapp, kit.environment, kit.tag), seconds)
    made.set()
    return made


def _write_source(folder: Path) -> None:
    for name in ("apex", "apex/normalization", "csrc"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "apex/__init__.py").write_text("")
    (folder / "apex/normalization/__init__.py").write_text("class FusedRMSNorm: ...\n")
    for name in (MODULE, OTHER):
        (folder / f"csrc/{name}.cpp").write_text("int main() {}\n")
    modules = f"MODULES = {[MODULE, OTHER]}\n"
    (folder / "setup.py").write_text(modules + SETUP_PY)


def _write_tools(folder: Path) -> None:
    (folder / "module.so").write_bytes(module_bytes("9.0"))
    for name in ("bin/cc", "bin/c++", "bin/g++", "bin/gcc", "cuda/bin/nvcc"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = NVCC if path.name == "nvcc" else COMPILER
        path.write_text(text.replace("@KIT@", str(folder)))
        path.chmod(0o755)
    config = folder / "cuda/include/crt/host_config.h"
    config.parent.mkdir(parents=True)
    config.write_text("#if __GNUC__ > 15\n")
    for name in ("cuda_runtime.h", "cublas_v2.h", "cusparse.h", "cusolverDn.h"):
        (folder / "cuda/include" / name).touch()
    (folder / "cuda/lib64").mkdir()
    (folder / "cuda/lib64/libcudart.so").touch()


def _pack(folder: Path) -> Path:
    standin = Module(MODULE, f"{MODULE}.py", machine_code=(), ptx=(), needed=())
    files = {"apex/__init__.py": "", f"{MODULE}.py": "__apex_fallback__ = True\n"}
    python_only = make_wheel(
        folder / "python-only", cell="python", version="0.1+20260708.python", python_files=files
    )
    entry = {**python_only.entry.to_json(), "modules": [vars(standin)]}
    zipapp = pack_zipapp(
        out=folder / "crowd.pyz",
        texts={
            "recipe.json": json.dumps(tiny_recipe(**RECIPE).raw),
            "toolkits.json": json.dumps({"schema": 1, "toolkits": {}, "build_requirements": []}),
            "python-only.json": json.dumps({REF: entry}),
        },
        carried={python_only.entry.file: python_only.path.read_bytes()},
        pythons=(),
    )
    _change_constants(zipapp)
    return zipapp


def _change_constants(zipapp: Path) -> None:
    original = zipapp.with_suffix(".original")
    zipapp.rename(original)
    with zipfile.ZipFile(original) as before, zipfile.ZipFile(zipapp, "w") as after:
        for item in before.infolist():
            data = before.read(item).decode("utf-8", "surrogateescape")
            old, new = CONSTANTS.get(item.filename, ("", ""))
            assert old in data, f"{item.filename} has no {old} any more"
            data = data.replace(old, new) if old else data
            after.writestr(item, data.encode("utf-8", "surrogateescape"))


@dataclass
class Pod:
    """One process, its target, and what it left."""

    process: subprocess.Popen[str]
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, timeout: float = 120) -> Pod:
        self.process.wait(timeout)
        return self

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    @property
    def report(self) -> dict[str, Any]:
        status = self.folder / "tmp/apex-install.json"
        return json.loads(status.read_text()) if status.exists() else {}

    @property
    def outcome(self) -> str:
        return str(self.report.get("outcome", ""))

    @property
    def causes(self) -> list[str]:
        return [attempt["cause"] for attempt in self.report.get("attempts", ())]

    @property
    def is_usable(self) -> bool:
        """Exit code, report and files agree that the app can have its layers."""
        module = list((self.folder / "target").glob(f"{MODULE}*"))
        package = (self.folder / "target/apex/__init__.py").is_file()
        return self.process.returncode == 0 and bool(module) and package


class Crowd:
    """Pods with one cache."""

    def __init__(self, root: Path, kit: CrowdKit) -> None:
        self.root, self.kit = root, kit
        self.cache = root / "volume/cache"
        self.cache.parent.mkdir(parents=True)
        (root / "index").mkdir()
        kit.forget()
        kit.set()

    def command(self, name: str, *words: str) -> list[str]:
        python = self.kit.kit.environment / "bin/python"
        common = ["--index-url", (self.root / "index").as_uri(), "--gpu", "9.0"]
        common += ["--source", str(self.kit.folder / "source"), "--cache-dir", str(self.cache)]
        target = self.folder(name) / "target"
        return [str(python), str(self.kit.kit.zipapp), *common, "--target", str(target), *words]

    def folder(self, name: str) -> Path:
        return self.root / "pods" / name

    def environ(self, name: str, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.kit.folder}/bin:/usr/bin:/bin",
            "HOME": str(self.folder(name)),
            "TMPDIR": str(self.folder(name) / "tmp"),
            "CUDA_HOME": str(self.kit.folder / "cuda"),
            **more,
        }

    def start(self, name: str, *words: str, **environ: str) -> Pod:
        """A pod of that name, new or again, in the background of the test."""
        folder = self.folder(name)
        for part in ("target", "tmp"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "tmp/apex-install.json").unlink(missing_ok=True)
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(
                self.command(name, *words),
                env=self.environ(name, **environ),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                text=True,
            )
        return Pod(process, folder)

    def run(self, name: str, *words: str, **environ: str) -> Pod:
        return self.start(name, *words, **environ).wait()

    def holders(self) -> list[int]:
        """Process ids in the leases that are there."""
        return [int(data["pid"]) for data in _read_all(self.cache / "leases", "*.lease")]

    def results(self) -> list[dict[str, Any]]:
        """Entries of what was compiled and published."""
        return list(_read_all(self.cache / "compiled", "*.json"))

    def half(self) -> list[str]:
        """What in the cache has the name of something whole, and is not."""
        bad = []
        wheels = {path.parent.name: path for path in self.cache.glob("wheels/*/*")}
        for digest, path in wheels.items():
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                bad.append(f"{path} is not what its name says")
        names = list(self.cache.glob("compiled/*.json"))
        whole = {entry["sha256"] for entry in self.results()}
        if len(self.results()) != len(names):
            bad.append("an entry cannot be read")
        bad += [f"{digest} of an entry is not there" for digest in whole - wheels.keys()]
        bad += [f"{digest} belongs to no entry" for digest in wheels.keys() - whole]
        return bad

    def running(self) -> list[str]:
        """Command lines of all processes that have to do with these pods."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.root) in words or str(self.kit.folder) in words:
                found.append(words)
        return found

    def clear(self) -> None:
        """A new volume, and new pods."""
        shutil.rmtree(self.root / "pods", ignore_errors=True)
        shutil.rmtree(self.cache, ignore_errors=True)
        self.kit.forget()


def _read_all(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(pattern)):
        try:
            yield json.loads(path.read_text())
        except (OSError, ValueError):  # another process writes it, or was killed at it
            continue
