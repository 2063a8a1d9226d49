"""Copies of a module, each with one thing changed that the loader looks at.

A name is changed by pointing one byte further into the string table, which makes it another name
and touches nobody else's; a version is changed in place, with the hash that belongs to it. No
mutant keeps its constructors: whether the loader takes it is the question, not what it then does.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.read.elf import ElfFile
from apex_installer.read.elf_hash import sysv_hash
from apex_installer.read.elf_image import DT_NEEDED, DT_VERNEED

if TYPE_CHECKING:
    from collections.abc import Iterator

_IGNORED_TAG = 0x6000000D
"""DT_LOOS: no loader knows it."""
_CONSTRUCTORS = (12, 13, 25, 26)
"""DT_INIT, DT_FINI, DT_INIT_ARRAY, DT_FINI_ARRAY."""
_WEAK_NEED = 2


@dataclass(frozen=True)
class Mutant:
    """One change: bytes to put at file offsets."""

    kind: str
    what: str
    patches: tuple[tuple[int, bytes], ...]

    def write(self, original: Path, folder: Path, number: int) -> Path:
        """A copy of `original` with this change and without constructors."""
        data = bytearray(original.read_bytes())
        for offset, new in (*disarm(original), *self.patches):
            data[offset : offset + len(new)] = new
        path = folder / f"{number:04d}@{self.kind}@{original.name}"
        path.write_bytes(data)
        return path


@dataclass(frozen=True)
class _Symbol:
    name: str
    name_at: int
    """In the string table."""
    entry: int
    """File offset of its entry."""
    weak: bool


@dataclass(frozen=True)
class _Need:
    library: str
    version: str
    version_at: int
    """File offset of the text."""
    entry: int
    """File offset of the record."""


def list_mutants(original: Path) -> list[Mutant]:
    """Every mutant of one module, in a fixed order."""
    with ElfFile(str(original)) as elf:
        symbols, needs = list(_undefined(elf)), list(_needs(elf))
        dynamic = list(_dynamic(elf))
        found = [*_renamed(symbols), *_redirected(symbols), *_needs_changed(elf, needs)]
        found += _needed_changed(elf, [entry for entry in dynamic if entry[1] == DT_NEEDED])
    return found


def sample(mutants: list[Mutant], count: int, *, seed: int) -> list[Mutant]:
    """The same choice for the same seed, with every kind in it."""
    chooser = random.Random(seed)  # noqa: S311 - a choice, not a secret
    by_kind: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_kind.setdefault(mutant.kind, []).append(mutant)
    for of_kind in by_kind.values():
        chooser.shuffle(of_kind)
    chosen: list[Mutant] = []
    while len(chosen) < min(count, len(mutants)):
        for of_kind in by_kind.values():
            if of_kind and len(chosen) < count:
                chosen.append(of_kind.pop())
    return chosen


def disarm(original: Path) -> tuple[tuple[int, bytes], ...]:
    """The patches that take a module's constructors away."""
    with ElfFile(str(original)) as elf:
        return tuple(
            (at, struct.pack("<Q", _IGNORED_TAG))
            for at, tag, _ in _dynamic(elf)
            if tag in _CONSTRUCTORS
        )


def _renamed(symbols: list[_Symbol]) -> Iterator[Mutant]:
    for symbol in symbols:
        if len(symbol.name) > 2:
            kind = "weak-renamed" if symbol.weak else "strong-renamed"
            yield Mutant(kind, symbol.name, (_u32(symbol.entry, symbol.name_at + 1),))


def _redirected(symbols: list[_Symbol]) -> Iterator[Mutant]:
    """A strong symbol takes its neighbour's name: another one, but one that may be there."""
    strong = [symbol for symbol in symbols if not symbol.weak]
    for symbol, other in zip(strong, strong[1:] + strong[:1], strict=True):
        yield Mutant(
            "strong-redirected",
            f"{symbol.name} -> {other.name}",
            (_u32(symbol.entry, other.name_at),),
        )


def _needs_changed(elf: ElfFile, needs: list[_Need]) -> Iterator[Mutant]:
    texts = {elf.text(need.version_at) for need in needs}
    for need in needs:
        sharing = [other for other in needs if other.version_at == need.version_at]
        for version in _other_versions(need.version):
            if version in texts:
                continue
            patches = [(need.version_at, version.encode())]
            patches += [_u32(other.entry, sysv_hash(version.encode())) for other in sharing]
            what = f"{need.library} {need.version} -> {version}"
            yield Mutant("need-raised", what, tuple(patches))
            flags = [(other.entry + 4, struct.pack("<H", _WEAK_NEED)) for other in sharing]
            yield Mutant("need-raised-weakly", what, (*patches, *flags))
        stale = _u32(need.entry, sysv_hash(need.version.encode()) ^ 1)
        yield Mutant("need-of-another-hash", f"{need.library} {need.version}", (stale,))


def _other_versions(version: str) -> Iterator[str]:
    """Higher ones of the same length: one that cannot exist, and some that may."""
    head, dot, last = version.rpartition(".")
    if not dot or not last.isdigit():
        return
    yield f"{head}.{'9' * len(last)}"
    for number in range(int(last) + 1, min(int(last) + 4, 10 ** len(last) - 1)):
        yield f"{head}.{number:0{len(last)}d}"


def _needed_changed(elf: ElfFile, entries: list[tuple[int, int, int]]) -> Iterator[Mutant]:
    for number, (at, _, value) in enumerate(entries):
        name = elf.string(value)
        other = entries[number - 1][2]
        yield Mutant("needed-renamed", name, ((at + 8, struct.pack("<Q", value + 1)),))
        yield Mutant("needed-dropped", name, ((at, struct.pack("<Q", _IGNORED_TAG)),))
        yield Mutant(
            "needed-redirected",
            f"{name} -> {elf.string(other)}",
            ((at + 8, struct.pack("<Q", other)),),
        )


def _undefined(elf: ElfFile) -> Iterator[_Symbol]:
    index = 0
    for reference in elf.undefined():
        while True:  # the symbol table's order is that of `undefined`
            index += 1
            entry = elf.symbols + 24 * index
            name_at, _, _, section = elf.unpack("<IBBH", entry)
            if section == 0 and elf.string(name_at) == reference.name:
                break
        yield _Symbol(reference.name, name_at, entry, reference.weak)


def _needs(elf: ElfFile) -> Iterator[_Need]:
    at = elf.offset_of(DT_VERNEED)
    while at:
        _, count, file_at, first, step = elf.unpack("<HHIII", at)
        aux = at + first
        for _ in range(count):
            _, _, _, name_at, next_aux = elf.unpack("<IHHII", aux)
            yield _Need(elf.string(file_at), elf.string(name_at), elf.strings + name_at, aux)
            aux += next_aux
        at = at + step if step else 0


def _dynamic(elf: ElfFile) -> Iterator[tuple[int, int, int]]:
    """(file offset, tag, value) of each dynamic entry."""
    (headers_at,) = elf.unpack("<Q", 32)
    (count,) = elf.unpack("<H", 56)
    for number in range(count):
        kind, _, offset, _, _, size = elf.unpack("<IIQQQQ", headers_at + 56 * number)
        if kind != 2:
            continue
        for at in range(offset, offset + size, 16):
            tag, value = elf.unpack("<QQ", at)
            if tag == 0:
                return
            yield at, tag, value


def _u32(offset: int, value: int) -> tuple[int, bytes]:
    return offset, struct.pack("<I", value)
