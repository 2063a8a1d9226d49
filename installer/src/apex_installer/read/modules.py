"""What an entry says of a module, read from the module's file."""

from __future__ import annotations

import hashlib
import re
from typing import Dict, Iterable, Mapping, Tuple

from apex_installer.model.entry import Module
from apex_installer.read.elf import ElfFile
from apex_installer.read.fatbin import read_architectures

FLOORS = ("GLIBC", "GLIBCXX", "CXXABI")
"""The version families that decide on which systems a module loads."""
_VERSION = re.compile(r"^([A-Z]+)_(\d+(?:\.\d+)*)$")


def read_module(path: str, *, name: str, file: str) -> Module:
    """Machine code, PTX and needed sonames; `file` is the path in the wheel.

    CheckError for a file that is no sane ELF file or whose device code is damaged.
    """
    architectures = read_architectures(path)
    with ElfFile(path) as elf:
        return Module(
            name=name,
            file=file,
            machine_code=architectures.machine_code,
            ptx=architectures.ptx,
            needed=elf.needed,
        )


def symbols_digest(paths: Mapping[str, str]) -> str:
    """sha256 over the sorted lines `module symbol`, one per strong undefined symbol.

    `paths` is module name -> file. A symbol's version belongs to it: `memcpy@GLIBC_2.14`.
    """
    lines = set()
    for name, path in paths.items():
        with ElfFile(path) as elf:
            for symbol in elf.undefined():
                if not symbol.weak:
                    version = f"@{symbol.version}" if symbol.version else ""
                    lines.add(f"{name} {symbol.name}{version}\n")
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def version_floors(paths: Iterable[str]) -> Dict[str, str]:
    """The highest version needed of each family: `{"GLIBC": "2.28", "GLIBCXX": "3.4.24", …}`.

    `paths` are files, or a mapping of module name -> file.
    """
    highest: Dict[str, Tuple[int, ...]] = {}
    for path in paths.values() if isinstance(paths, Mapping) else paths:
        with ElfFile(path) as elf:
            for need in elf.version_needs:
                match = _VERSION.match(need.version)
                if match and match.group(1) in FLOORS and not need.weak:
                    number = tuple(int(part) for part in match.group(2).split("."))
                    family = match.group(1)
                    highest[family] = max(highest.get(family, number), number)
    return {family: ".".join(map(str, highest[family])) for family in FLOORS if family in highest}
