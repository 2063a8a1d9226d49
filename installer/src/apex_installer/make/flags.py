"""Rewrite captured compiler and linker lines. Pure.

torch and setuptools decide every flag; what is changed here is only what a build for this cell
says otherwise: the architectures, the debug information of host code, and the folder of Python's
headers for device code, which does not depend on Python.
"""

from __future__ import annotations

import re
from typing import Iterable, List, Sequence, Tuple

from apex_installer.model.arch import Architectures

_DEBUG = re.compile(r"^-g(gdb|dwarf|split-dwarf|pubnames|stabs)?[-\d]*$")
_GENERATES = ("-gencode", "--generate-code", "-arch", "--gpu-architecture", "-code", "--gpu-code")


def without_debug(argv: Iterable[str]) -> Tuple[str, ...]:
    """Without the `-g` that this Python's CFLAGS bring (not nvcc's -lineinfo)."""
    return tuple(part for part in argv if not _DEBUG.match(part))


def without_pairs(argv: Sequence[str], names: Sequence[str]) -> Tuple[str, ...]:
    """Without the options `names`, written `name=value` or `name value`."""
    kept: List[str] = []
    skip = False
    for part in argv:
        if skip:
            skip = False
        elif part in names:
            skip = True
        elif part.partition("=")[0] not in names:
            kept.append(part)
    return tuple(kept)


def generate_code(architectures: Architectures) -> Tuple[str, ...]:
    """Nvcc's `-gencode` options for exactly these, as torch writes them: `9.0+PTX`."""
    flags = [
        f"-gencode=arch=compute_{number},code=sm_{number}"
        for number in map(_number, architectures.machine_code)
    ]
    flags += [
        f"-gencode=arch=compute_{number},code=compute_{number}"
        for number in map(_number, architectures.ptx)
    ]
    return tuple(flags)


def _number(arch: str) -> str:
    return arch.replace(".", "")


def for_architectures(argv: Sequence[str], architectures: Architectures) -> Tuple[str, ...]:
    """Nvcc's line for these architectures and no others, hard-coded ones of old refs included."""
    return (*without_pairs(argv, _GENERATES), *generate_code(architectures))


def without_includes(argv: Sequence[str], folders: Iterable[str]) -> Tuple[str, ...]:
    """Without `-I` (joined or apart) of these folders."""
    unwanted = set(folders)
    kept: List[str] = []
    waiting = ""
    for part in argv:
        if waiting:
            if part not in unwanted:
                kept += [waiting, part]
            waiting = ""
        elif part in {"-I", "-isystem"}:
            waiting = part
        elif not (part.startswith("-I") and part[2:] in unwanted):
            kept.append(part)
    return tuple(kept)


def with_all_dependencies(argv: Sequence[str]) -> Tuple[str, ...]:
    """`-MD` for `-MMD`: the depfile names system headers too, which a rebuild depends on."""
    return tuple("-MD" if part == "-MMD" else part for part in argv)


def without_run_path(argv: Sequence[str]) -> Tuple[str, ...]:
    """A linker's line without -rpath in its usual spellings, and without -g."""
    kept: List[str] = []
    skip = False
    for part in without_debug(argv):
        if skip:
            skip = False
        elif part in {"-Wl,-rpath", "-R"}:
            skip = True
        elif not re.match(r"^(-Wl,(-rpath|-R|--rpath|--enable-new-dtags)|-R.)", part):
            kept.append(part)
    return tuple(kept)
