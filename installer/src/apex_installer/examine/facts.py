"""What a shared object says of itself, as values. Nothing here knows an environment."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from apex_installer.errors import CheckError
from apex_installer.model.arch import Architectures
from apex_installer.read.blame import library_for
from apex_installer.read.elf import ElfFile
from apex_installer.read.elf_image import MACHINES
from apex_installer.read.fatbin import common_to, read_parts
from apex_installer.read.modules import version_floors
from apex_installer.read.torch_files import cxx11_abi_of

_TAGGED = re.compile(r"\.cpython-(\d)(\d+)(t?)-[\w-]+\.so$")
_CUDA = re.compile(r"^lib(?:cudart|cublas|cublasLt)\.so\.(\d+)")
_TORCH = ("libtorch", "libc10")


class Found(NamedTuple):
    """A shared object of the subject."""

    name: str
    """Import name."""
    file: str
    """Path in the wheel, or below the folder that holds the package."""
    path: str


class ModuleFacts(NamedTuple):
    """One shared object, as it says itself."""

    name: str
    file: str
    path: str
    is_module: bool = True
    """Whether Python imports it, or torch loads it; else it is a library that is brought along."""
    damaged: str = ""
    """Why nothing could be read; empty where all could."""
    machine: str = ""
    """`x86_64`."""
    python: str = ""
    """`cp310` or `abi3`, as the file's name says; empty where it does not."""
    parts: Tuple[Architectures, ...] = ()
    """One per kind of device code: kernels of one `.cu` may be for other GPUs than the rest."""
    needed: Tuple[str, ...] = ()
    floors: Mapping[str, str] = {}
    undefined: int = 0
    """How many strong symbols others must define."""
    needs_torch: bool = False
    cxx11_abi: Optional[bool] = None
    """Of the torch that it was built for; None where its symbols do not tell."""
    cuda: str = ""
    """`12`: the major release of the CUDA libraries that it asks for by name."""

    @property
    def everywhere(self) -> Architectures:
        """What every part runs on."""
        return common_to(self.parts)

    @property
    def anywhere(self) -> Architectures:
        """What some part holds."""
        return Architectures.of(
            (arch for part in self.parts for arch in part.machine_code),
            (arch for part in self.parts for arch in part.ptx),
        )

    @property
    def only_in_parts(self) -> Architectures:
        """What some part holds, and not every part runs on."""
        everywhere, anywhere = self.everywhere, self.anywhere
        return Architectures.of(
            set(anywhere.machine_code) - set(everywhere.machine_code),
            set(anywhere.ptx) - set(everywhere.ptx),
        )

    def to_json(self) -> Dict[str, Any]:
        """For the report."""
        everywhere = self.everywhere
        return {
            "name": self.name,
            "file": self.file,
            "is_module": self.is_module,
            "damaged": self.damaged or None,
            "machine": self.machine or None,
            "python": self.python or None,
            "machine_code": list(everywhere.machine_code),
            "ptx": list(everywhere.ptx),
            "only_in_parts": self.only_in_parts.text,
            "needed": list(self.needed),
            "floors": dict(self.floors),
            "undefined": self.undefined,
            "needs_torch": self.needs_torch,
            "cxx11_abi": self.cxx11_abi,
            "cuda": self.cuda or None,
        }


def read_module_facts(found: Found) -> ModuleFacts:
    """Read one file; what is wrong with it is a fact, too."""
    try:
        return _read(found)
    except CheckError as error:
        why = str(error).replace(f"{found.path}: ", "")
    except OSError as error:
        why = error.strerror or str(error)
    return ModuleFacts(found.name, found.file, found.path, damaged=why)


def _read(found: Found) -> ModuleFacts:
    base = os.path.basename(found.path)
    stem = base.partition(".")[0]
    parts = read_parts(found.path)
    floors = version_floors([found.path])
    with ElfFile(found.path) as elf:
        symbols = [symbol.name for symbol in elf.references() if not symbol.weak]
        needed, machine = elf.needed, elf.machine
        is_module = not base.startswith("lib") or elf.defines(f"PyInit_{stem}")
    return ModuleFacts(
        name=found.name,
        file=found.file,
        path=found.path,
        is_module=is_module,
        machine=next((name for name, number in MACHINES.items() if number == machine), "another"),
        python=python_of(base),
        parts=parts,
        needed=needed,
        floors=floors,
        undefined=len(symbols),
        needs_torch=_needs_torch(needed, symbols),
        cxx11_abi=cxx11_abi_of(symbols),
        cuda=_cuda_of(needed),
    )


def python_of(file: str) -> str:
    """`_C.cpython-310-x86_64-linux-gnu.so` -> `cp310`; `_C.abi3.so` -> `abi3`; `_C.so` -> ``."""
    match = _TAGGED.search(file)
    if match:
        return "cp" + "".join(match.groups())
    return "abi3" if file.endswith(".abi3.so") else ""


def is_torchs(library: Optional[str]) -> bool:
    """Whether a soname is one of torch's own."""
    return library is not None and library.startswith(_TORCH)


def _needs_torch(needed: Iterable[str], symbols: Iterable[str]) -> bool:
    if any(is_torchs(soname) for soname in needed):
        return True
    return any(is_torchs(library_for(symbol)) for symbol in symbols)


def _cuda_of(needed: Iterable[str]) -> str:
    majors: List[str] = [
        match.group(1) for soname in needed for match in [_CUDA.match(soname)] if match
    ]
    return majors[0] if majors else ""
