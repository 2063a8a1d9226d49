"""ELF shared objects of a few hundred bytes, written without a compiler."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apex_installer.read.elf_hash import gnu_hash, sysv_hash

if TYPE_CHECKING:
    from pathlib import Path

_HEADERS = 64 + 2 * 56
_GLOBAL, _WEAK = 1, 2


@dataclass(frozen=True)
class TinyElf:
    """What such a file holds; symbols are `name` or `name@VERSION`."""

    soname: str | None = None
    needed: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    """Own symbols; a version makes a version definition."""
    undefined: tuple[str, ...] = ()
    """Strong ones that a relocation names; `name@VERSION:library` needs that version there."""
    weak: tuple[str, ...] = ()
    never_looked_up: tuple[str, ...] = ()
    """Strong ones that no relocation names."""
    needs: tuple[str, ...] = ()
    """`VERSION:library` that no symbol uses."""
    runpath: str | None = None
    rpath: str | None = None
    hash_style: str = "gnu"
    machine: int = 62
    appended: bytes = b""
    """Put at a multiple of 8, after everything else."""
    _strings: bytearray = field(default_factory=lambda: bytearray(b"\0"))

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data())
        return path

    def data(self) -> bytes:
        """Header, two program headers, then every table; addresses are file offsets."""
        undefined = [*self.undefined, *self.weak, *self.never_looked_up]
        own = list(self.defines)
        versions = _Versions(self, undefined, own)
        body = bytearray()
        at: dict[str, int] = {}

        def put(name: str, data: bytes) -> None:
            body.extend(b"\0" * (-len(body) % 8))
            at[name] = _HEADERS + len(body)
            body.extend(data)

        symbols = b"\0" * 24
        for name in undefined:
            binding = _WEAK if name in self.weak else _GLOBAL
            symbols += struct.pack("<IBBHQQ", self._text(_name(name)), binding << 4, 0, 0, 0, 0)
        for name in own:
            symbols += struct.pack("<IBBHQQ", self._text(_name(name)), 0x12, 0, 7, 0x1000, 8)
        put("symtab", symbols)
        put("hash", self._hash(undefined, own))
        put("versym", versions.symbols())
        put("verneed", versions.needs())
        put("verdef", versions.definitions())
        relocated = range(1, 1 + len(self.undefined) + len(self.weak))
        put("rela", b"".join(struct.pack("<QQq", 0, index << 32 | 6, 0) for index in relocated))
        dynamic = [(1, self._text(name.encode())) for name in self.needed]
        for tag, text in ((14, self.soname), (15, self.rpath), (29, self.runpath)):
            dynamic += [(tag, self._text(text.encode()))] if text else []
        put("strtab", bytes(self._strings))
        dynamic += [(5, at["strtab"]), (10, len(self._strings)), (6, at["symtab"])]
        dynamic += [(0x6FFFFEF5 if self.hash_style == "gnu" else 4, at["hash"])]
        dynamic += [(7, at["rela"]), (8, 24 * len(relocated))]
        if versions.has_any:
            dynamic += [(0x6FFFFFF0, at["versym"])]
        dynamic += [(0x6FFFFFFE, at["verneed"])] if versions.wanted else []
        dynamic += [(0x6FFFFFFC, at["verdef"])] if versions.own else []
        put("dynamic", b"".join(struct.pack("<QQ", *entry) for entry in [*dynamic, (0, 0)]))
        put("appended", self.appended)
        size = _HEADERS + len(body)
        load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 4096)
        length = 16 * (len(dynamic) + 1)
        place = at["dynamic"]
        dynamic_header = struct.pack("<IIQQQQQQ", 2, 6, place, place, place, length, length, 8)
        return self._header() + load + dynamic_header + bytes(body)

    def _header(self) -> bytes:
        ident = b"\x7fELF" + bytes((2, 1, 1)) + b"\0" * 9
        rest = struct.pack("<HHIQQQIHHHHHH", 3, self.machine, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
        return ident + rest

    def _text(self, text: bytes) -> int:
        found = self._strings.find(b"\0" + text + b"\0")
        if found >= 0:
            return found + 1
        self._strings.extend(text + b"\0")
        return len(self._strings) - len(text) - 1

    def _hash(self, undefined: list[str], own: list[str]) -> bytes:
        first = 1 + len(undefined)
        count = first + len(own)
        if self.hash_style == "sysv":
            # one bucket: every symbol in one chain
            links = [0, *range(2, count), 0][:count]
            return struct.pack(f"<III{count}I", 1, count, min(1, count - 1), *links)
        hashes = [gnu_hash(_name(name)) for name in own]
        word = 0
        for value in hashes:
            word |= 1 << (value & 63) | 1 << ((value >> 6) & 63)
        chain = [value & ~1 for value in hashes]
        if chain:
            chain[-1] |= 1
        bucket = first if own else 0
        return struct.pack(f"<IIIIQI{len(chain)}I", 1, first, 1, 6, word, bucket, *chain)


class _Versions:
    """Version indices: 0 local, 1 global, own definitions from 2 on, needs after them."""

    def __init__(self, elf: TinyElf, undefined: list[str], own: list[str]) -> None:
        self._elf, self._undefined, self._own = elf, undefined, own
        self.own = list(dict.fromkeys(_version(name) for name in own if _version(name)))
        texts = [_version(name) for name in undefined] + list(elf.needs)
        self.wanted = list(dict.fromkeys(text for text in texts if text))
        self.has_any = bool(self.own or self.wanted)

    def symbols(self) -> bytes:
        indices = [0]
        indices += [self._wanted_index(_version(name)) for name in self._undefined]
        # One base definition (the file's own name) takes index 1.
        indices += [2 + self.own.index(_version(n)) if _version(n) else 1 for n in self._own]
        return struct.pack(f"<{len(indices)}H", *indices)

    def needs(self) -> bytes:
        out = b""
        for number, text in enumerate(self.wanted):
            version, _, library = text.partition(":")
            step = 0 if number == len(self.wanted) - 1 else 32
            file_at, name_at = self._elf._text(library.encode()), self._elf._text(version.encode())
            out += struct.pack("<HHIII", 1, 1, file_at, 16, step)
            stated = sysv_hash(version.encode())
            out += struct.pack("<IHHII", stated, 0, self._wanted_index(text), name_at, 0)
        return out

    def definitions(self) -> bytes:
        out = b""
        names = [self._elf.soname or "base", *self.own]
        for number, version in enumerate(names):
            step = 0 if number == len(names) - 1 else 28
            flags = 1 if number == 0 else 0
            stated = sysv_hash(version.encode())
            out += struct.pack("<HHHHIII", 1, flags, number + 1, 1, stated, 20, step)
            out += struct.pack("<II", self._elf._text(version.encode()), 0)
        return out

    def _wanted_index(self, text: str) -> int:
        return 2 + len(self.own) + self.wanted.index(text) if text else 1


def _name(symbol: str) -> bytes:
    return symbol.partition("@")[0].encode()


def _version(symbol: str) -> str:
    return symbol.partition("@")[2]
