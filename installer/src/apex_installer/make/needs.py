"""What a compile needs of the machine beside a toolkit: g++ within nvcc's limit, Python.h.

All that is missing is named at once, each with its remedy, before anything is compiled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from apex_installer.errors import ToolkitError
from apex_installer.make.process import ask

_OLDEST_GCC = 9
"""C++17 as torch's headers use it."""

_ASK_PYTHON = """
import importlib.util, json, os, sys, sysconfig
torch = importlib.util.find_spec("torch")
print(json.dumps({
    "header": os.path.join(sysconfig.get_path("include"), "Python.h"),
    "version": "%d.%d" % sys.version_info[:2],
    "torch_directory": torch.submodule_search_locations[0] if torch else "",
    "setuptools": bool(importlib.util.find_spec("setuptools")),
}))
"""
"""Nothing of it imports torch."""


@dataclass(frozen=True)
class Target:
    """The interpreter that is built for, as far as a compile depends on it."""

    header: str
    """Where its Python.h should be."""
    version: str
    """`3.11`."""
    torch_directory: str
    setuptools: bool
    """Whether it has one: setup.py imports it."""


@dataclass(frozen=True)
class HostCompiler:
    """The C++ compiler for the CPU side (NVIDIA's word: host compiler)."""

    cxx: str
    """As started: `c++`, `g++-12`."""
    version: str
    """`12.2.0`."""
    is_gcc: bool
    environ: Mapping[str, str]
    """What setup.py must see for torch to take this one: empty for the machine's default."""


def parse_gcc_version(said: str) -> Optional[Tuple[str, bool]]:
    """(version, whether it is gcc) from the words of `c++ --version`; None: not understood."""
    match = re.search(r"(\d+\.\d+(?:\.\d+)?)", said.split("\n", 1)[0].rpartition(")")[2] or said)
    if not match:
        return None
    return match.group(1), "Free Software Foundation" in said


def find_host_compiler(*, limit: Optional[int], environ: Mapping[str, str]) -> HostCompiler:
    """CXX if it is set, else c++, else the newest g++-N within nvcc's `limit` (major version).

    ToolkitError says what is there and what to install.
    """
    path = environ.get("PATH", "")
    asked = environ.get("CXX")
    names = [asked] if asked else ["c++", "g++"]
    refused: List[str] = []
    for name in names:
        found = _read_compiler(name, path)
        if found is None:
            continue
        version, is_gcc = found
        if not is_gcc or limit is None or int(version.split(".")[0]) <= limit:
            return HostCompiler(name, version, is_gcc, {})
        refused.append(f"{name} is gcc {version}, but this nvcc takes gcc {limit} at most")
    for major in range(limit or _OLDEST_GCC, _OLDEST_GCC - 1, -1) if not asked else ():
        found = _read_compiler(f"g++-{major}", path)
        if found and shutil.which(f"gcc-{major}", path=path):
            return HostCompiler(
                f"g++-{major}",
                found[0],
                is_gcc=True,
                environ={"CXX": f"g++-{major}", "CC": f"gcc-{major}"},
            )
    if refused:
        raise ToolkitError(
            f"{refused[0]}: apt-get install g++-{limit} (then CC=gcc-{limit} CXX=g++-{limit})"
        )
    package = f"g++-{limit}" if limit else "g++"
    raise ToolkitError(f"no g++ ({' and '.join(names)} not found): apt-get install {package}")


def _read_compiler(name: str, path: str) -> Optional[Tuple[str, bool]]:
    program = shutil.which(name, path=path)
    if program is None:
        return None
    said = ask([program, "--version"], environ={"PATH": path, "LC_ALL": "C"})
    return parse_gcc_version(said) if said else None


def read_target(interpreter: str, environ: Mapping[str, str]) -> Target:
    """Ask the interpreter; ToolkitError where it does not run. About 30 ms."""
    said = ask([interpreter, "-c", _ASK_PYTHON], environ=environ, errors=False)
    if not said:
        raise ToolkitError(f"{interpreter}: does not run; give another --python")
    return Target(**json.loads(said))


def find_importable(
    interpreter: str, modules: Sequence[str], environ: Mapping[str, str]
) -> Tuple[str, ...]:
    """Those of `modules` that the interpreter could import; none of them is imported."""
    script = (
        "import importlib.util, json, sys; "
        "print(json.dumps([m for m in sys.argv[1:] if importlib.util.find_spec(m)]))"
    )
    words = [interpreter, "-c", script, *modules]
    said = ask(words, environ=environ, errors=False)
    return tuple(json.loads(said)) if said else ()


def target_faults(target: Target, interpreter: str) -> Tuple[str, ...]:
    """What the interpreter lacks, each with its remedy."""
    faults: List[str] = []
    if not os.path.exists(target.header):
        faults.append(f"no {target.header}: apt-get install python{target.version}-dev")
    if not target.torch_directory:
        faults.append(f"{interpreter}: has no torch; give the --python that has it")
    if not target.setuptools:
        faults.append(f"{interpreter}: has no setuptools: {interpreter} -m pip install setuptools")
    return tuple(faults)


def compiler_environment(compiler: HostCompiler, environ: Mapping[str, str]) -> Dict[str, str]:
    """`environ` as setup.py must see it to take this compiler."""
    return {**environ, **compiler.environ}
