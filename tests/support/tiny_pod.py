"""A pod of tiny files with a real interpreter, for runs of apex-install as a process of its own.

    pod = TinyPod(tmp_path / "pod", kit)     # a virtual environment, a torch, an index, a home
    pod.offer(pod.wheel())
    ended = pod.run("--gpu", "9.0")
    ended.code, ended.line, pod.state()

The torch is a few ELF files of some hundred bytes and a `version.py`; the installer reads no more
of a real one. Everything that a run may write lies below the pod's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.tiny_elf import TinyElf
from support.tiny_fatbin import fatbin
from support.wheels import ARCHITECTURES, MODULE, TORCH, TORCH_GIT, make_wheel, tiny_recipe
from support.wheels import write_document as write_index
from wheelbuild.zipapp import pack_zipapp

if TYPE_CHECKING:
    from support.wheels import MadeWheel

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
SUFFIX = f".cpython-{TAG[2:]}-x86_64-linux-gnu.so"
INDEX_PATH = "cu130/torch2.11"
CHECK_FAIL = (
    "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
)
VERSION_PY = f"""\
from typing import Optional
__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '{TORCH}'
debug = False
cuda: Optional[str] = '13.0'
git_version = '{TORCH_GIT}'
hip: Optional[str] = None
"""
CPU_PY = VERSION_PY.replace("+cu130", "+cpu").replace("'13.0'", "None")
ROCM_PY = (
    VERSION_PY.replace("+cu130", "+rocm6.4")
    .replace("'13.0'", "None")
    .replace("hip: Optional[str] = None", "hip: Optional[str] = '6.4.43482'")
)


@dataclass(frozen=True)
class Kit:
    """Made once for many pods: the packed installer, and an environment to copy."""

    zipapp: Path
    environment: Path
    tag: str
    """`cp311`: of the environment's Python."""


def make_kit(
    folder: Path, *, python: str = sys.executable, minor: str = MINOR, **recipe: object
) -> Kit:
    """Pack apex-install with a tiny recipe, which `recipe` changes; `python` is a Python `minor`.

    Sources alone are packed, so that every Python compiles them itself.
    """
    text = json.dumps(tiny_recipe(**recipe).raw)
    zipapp = pack_zipapp(out=folder / "apex-install.pyz", texts={"recipe.json": text}, pythons=())
    environment, tag = folder / "venv", f"cp{minor.replace('.', '')}"
    make_venv(environment, python=python)
    write_torch(site_packages(environment), suffix=f".cpython-{tag[2:]}-x86_64-linux-gnu.so")
    return Kit(zipapp, environment, tag)


def make_venv(folder: Path, *, python: str = sys.executable) -> None:
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)


def site_packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python3*/site-packages")
    return found


def write_torch(folder: Path, *, version_py: str = VERSION_PY, suffix: str = SUFFIX) -> None:
    """A torch of the new C++ ABI below `folder`, as far as its files are read."""
    lib = folder / "torch/lib"
    TinyElf(soname="libc10.so", defines=(CHECK_FAIL,)).write(lib / "libc10.so")
    TinyElf(soname="libtorch_cpu.so", needed=("libc10.so",), rpath="$ORIGIN").write(
        lib / "libtorch_cpu.so"
    )
    TinyElf(rpath="$ORIGIN").write(lib / "libtorch_global_deps.so")
    TinyElf(needed=("libtorch_cpu.so",), rpath="$ORIGIN/lib").write(folder / f"torch/_C{suffix}")
    (folder / "torch/version.py").write_text(version_py)
    (folder / "torch/__init__.py").write_text("raise ImportError('nobody may import this')\n")


def module_bytes(*machine_code: str, undefined: str = CHECK_FAIL) -> bytes:
    """An extension module for these architectures that loads beside the tiny torch."""
    code = fatbin(*machine_code) if machine_code else b""
    return TinyElf(needed=("libc10.so",), undefined=(undefined,), appended=code).data()


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str
    report: dict[str, Any]
    """What it left in its temporary directory; empty where it was not even begun."""

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()

    @property
    def line(self) -> str:
        """The last on stderr, which people grep."""
        return self.lines[-1]

    @property
    def causes(self) -> list[str]:
        return [attempt["cause"] for attempt in self.report.get("attempts", ())]


class TinyPod:
    """A folder that holds all a run may read or write, the interpreter's own files apart."""

    def __init__(self, root: Path, kit: Kit) -> None:
        self.root, self.zipapp = root, kit.zipapp
        self.cell = f"{kit.tag}-torch2.11-cu130-linux_x86_64"
        self.environment = root / "venv"
        shutil.copytree(kit.environment, self.environment, symlinks=True)
        self.target = site_packages(self.environment)
        self.python = self.environment / "bin/python"
        self.index = root / "index"
        self.index_url = self.index.as_uri()
        self.environ = {"PATH": str(self.environment / "bin")}
        for variable in ("TMPDIR", "XDG_CACHE_HOME", "HOME"):
            (root / variable).mkdir()
            self.environ[variable] = str(root / variable)

    def wheel(self, name: str = "made", **how: Any) -> MadeWheel:
        """One that fits; see `support.wheels.make_wheel`."""
        how = {
            "cell": self.cell,
            "architectures": ARCHITECTURES,
            "module_bytes": {MODULE: module_bytes(*how.get("architectures", ARCHITECTURES))},
            **how,
        }
        return make_wheel(self.root / name, **how)

    def offer(self, *wheels: MadeWheel) -> Path:
        """Put them into the index; returns its document."""
        return write_index(self.index, wheels, cell=self.cell)

    def served(self, made: MadeWheel) -> Path:
        """The file that the index holds for a wheel."""
        return next(self.index.rglob(made.entry.file))

    def run(self, *words: str, **environ: str) -> Ended:
        """Run the packed installer by the pod's own interpreter."""
        return self.ended(self.process(*words, **environ))

    def process(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), str(self.zipapp), *words]
        if not any(word.startswith("--index-url") for word in words):
            command += ["--index-url", self.index_url]
        return subprocess.run(
            command,
            env={**self.environ, **environ},
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )

    def ended(self, done: subprocess.CompletedProcess[str]) -> Ended:
        """With the report that the run left, which is taken away."""
        status = self.root / "TMPDIR/apex-install.json"
        report = json.loads(status.read_text()) if status.is_file() else {}
        status.unlink(missing_ok=True)
        return Ended(done.returncode, done.stdout, done.stderr, report)

    def state(self) -> dict[str, str]:
        """All of the target: see `state_of`."""
        return state_of(self.target)


def state_of(root: Path) -> dict[str, str]:
    """Everything below a folder: kind, mode, mtime, and bytes or where a link leads.

    Stricter than `targets.tree`: an empty folder that was left behind is a change too.
    """
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            about = path.lstat()
            if stat.S_ISLNK(about.st_mode):
                content = str(path.readlink())
            elif stat.S_ISREG(about.st_mode):
                content = f"{about.st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}"
            else:
                content = ""
            found[str(path.relative_to(root))] = f"{about.st_mode:o} {content}"
    return found
