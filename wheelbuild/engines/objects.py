"""Where compiled objects are kept: one folder per torch × CUDA × toolchain, for all Pythons.

A folder is for builds of one trust level. An object is found by its command and by the bytes of
all that it was made of (`apex_installer.make.store`); what a command does not name, the programs
behind nvcc and gcc, is in the folder's name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from wheelbuild.command import run_command
from wheelbuild.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_CUDA = ("nvcc", "cudafe++", "ptxas", "fatbinary", "nvlink")
_HOST = ("gcc", "g++", "c++")
_CHOSEN = ("CC", "CXX", "NVCC_CCBIN", "CUDAHOSTCXX")
_BEHIND = ("cc1plus", "as")


def objects_folder(
    cache: Path, *, torch: str, torch_git: str, cuda_home: str, environ: Mapping[str, str]
) -> Path:
    """`<cache>/objects/torch2.11.0+cu130-<toolchain>`; about 0.3 s, to read the compilers."""
    programs = find_programs(cuda_home, environ=environ)
    return cache / "objects" / f"torch{torch}-{identify(programs, torch_git=torch_git)}"


def identify(programs: Iterable[Path], *, torch_git: str) -> str:
    """16 hex digits: of torch's commit and of the bytes of every program."""
    text = "\n".join([torch_git, *sorted(f"{path.name} {_digest(path)}" for path in programs)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_programs(cuda_home: str, *, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The compilers that a build could start, and those that they start themselves."""
    found = list(find_cuda_programs(cuda_home))
    for program in _host_compilers(environ):
        found += [program, *_behind(program)]
    return tuple(dict.fromkeys(path.resolve() for path in found if path.is_file()))


def find_cuda_programs(cuda_home: str) -> tuple[Path, ...]:
    """Nvcc and what it starts of its own."""
    found = [Path(cuda_home) / "bin" / name for name in _CUDA]
    found.append(Path(cuda_home) / "nvvm" / "bin" / "cicc")
    return tuple(path for path in found if path.is_file())


def _host_compilers(environ: Mapping[str, str]) -> Iterator[Path]:
    for name in (*_HOST, *(environ[one] for one in _CHOSEN if environ.get(one))):
        program = shutil.which(name, path=environ.get("PATH", os.defpath))
        if program:
            yield Path(program)


def _behind(program: Path) -> Iterator[Path]:
    """What gcc starts; another compiler does not know the question, and is one program."""
    for name in _BEHIND:
        try:
            said = run_command([program, f"-print-prog-name={name}"]).output.strip()
        except CommandError:
            return
        found = shutil.which(said)
        if found:
            yield Path(found)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
