"""torch, as its files say: version, CUDA, git hash and C++ ABI without importing it.

`import torch` takes seconds and hundreds of megabytes; the same facts from files, a millisecond.
"""

from __future__ import annotations

import os
import re
from typing import Iterable, Optional, Sequence

from apex_installer.errors import NoTorchError
from apex_installer.model.environment import Torch
from apex_installer.read.elf import ElfFile

_ASSIGNED = r"^{name}(?:\s*:[^=\n]+)?\s*=\s*(.+?)\s*$"
"""Annotated since torch 2.0 (`cuda: Optional[str] = '12.1'`), plain before."""
_CHECK_FAIL = "_ZN3c106detail14torchCheckFailEPKcS2_jRK"
"""`c10::detail::torchCheckFail(char const*, char const*, unsigned, std::string const&)`, without
its last parameter: libc10 defines it for one of the two kinds of `std::string`."""
_STRING_OF_ABI = (
    ("NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE", True),
    ("Ss", False),
)


def find_torch(path: Sequence[str]) -> Optional[str]:
    """The package folder of the first torch on `path`, as `import` would take it."""
    for entry in path:
        folder = os.path.join(entry, "torch")
        if os.path.isfile(os.path.join(folder, "version.py")):
            return folder
    return None


def read_torch(directory: str) -> Torch:
    """Read a torch's package folder; NoTorchError where `version.py` tells no version."""
    version_file = os.path.join(directory, "version.py")
    try:
        with open(version_file, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise NoTorchError(f"cannot read {version_file}: {error}: reinstall torch") from error
    version = assigned(text, "__version__")
    if version is None:
        raise NoTorchError(f"{version_file} states no __version__: reinstall torch")
    return Torch(
        directory=directory,
        version=version,
        git=assigned(text, "git_version") or "",
        cuda=assigned(text, "cuda"),
        cxx11_abi=read_cxx11_abi(directory),
        hip=assigned(text, "hip"),
    )


def assigned(text: str, name: str) -> Optional[str]:
    """The string that `version.py` assigns to a name; None for `None` or no such name."""
    match = re.search(_ASSIGNED.format(name=name), text, re.MULTILINE)
    if not match or match.group(1)[:1] not in "'\"":
        return None
    return match.group(1).strip("'\"")


def read_cxx11_abi(directory: str) -> Optional[bool]:
    """Whether libc10 was built with the C++11 ABI; None where that cannot be told.

    It is a property of torch's build, not of its version: of torch 2.6.0's wheels for CUDA, 12.6
    has the new one, 11.8 and 12.4 the old.
    """
    library = os.path.join(directory, "lib", "libc10.so")
    if not os.path.isfile(library):
        return None
    with ElfFile(library) as elf:
        for string, is_new in _STRING_OF_ABI:
            if elf.defines(_CHECK_FAIL + string):
                return is_new
    return None


def cxx11_abi_of(undefined: Iterable[str]) -> Optional[bool]:
    """Which C++ ABI a module's torch had, told by what it asks of that torch; None: not told."""
    for symbol in undefined:
        if symbol.startswith(_CHECK_FAIL):
            return not symbol.endswith("Ss")
    return None
