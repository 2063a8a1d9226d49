"""The symbols of an ELF file, asked and answered as glibc's loader does.

Source: glibc `elf/dl-lookup.c` (`check_match`, `do_lookup_x`), `elf/dl-version.c`,
`sysdeps/*/dl-machine.h` (which relocations look a symbol up); x86-64 and AArch64 psABI.
"""

from __future__ import annotations

import functools
import struct
from typing import Dict, FrozenSet, Iterator, NamedTuple, Optional, Sequence, Set, Tuple

from apex_installer.read.elf_hash import HashTable, hash_name, read_hash_table, sysv_hash
from apex_installer.read.elf_image import (
    DT_JMPREL,
    DT_PLTRELSZ,
    DT_RELA,
    DT_RELACOUNT,
    DT_RELASZ,
    DT_VERDEF,
    DT_VERSYM,
    ElfImage,
)
from apex_installer.read.elf_versions import (
    HIDDEN,
    INDEX,
    VersionDefinition,
    VersionNeed,
    read_definitions,
    read_needs,
)

_RELOCATION_NONE = 0
_SYMBOL, _SYMBOL_SIZE, _RELOCATION_SIZE = "<IBBHQQ", 24, 24
_LOCAL, _GLOBAL, _WEAK, _UNIQUE = 0, 1, 2, 10
_HIDDEN_OR_INTERNAL = (1, 2)
_LOOKED_UP_TYPES = frozenset({0, 1, 2, 5, 6, 10})
"""NOTYPE, OBJECT, FUNC, COMMON, TLS, GNU_IFUNC: what the loader takes for a definition."""
_TLS, _UNDEFINED, _ABSOLUTE = 6, 0, 0xFFF1
_FIRST_VERSION_AFTER_BASE = 3
"""An unversioned lookup takes a symbol of a lower index at once, of a higher one only if alone."""


class Reference(NamedTuple):
    """An undefined symbol."""

    name: str
    version: Optional[str]
    library: Optional[str]
    """The soname that should have that version; None for a symbol without version."""
    version_hash: int
    weak: bool


class ElfFile(ElfImage):
    """One mapped shared object or executable, and lookups in it."""

    def __init__(self, path: str) -> None:
        """Map it; CheckError for what is no sane ELF file, OSError as `open` has it."""
        super().__init__(path)
        self._versions = self.offset_of(DT_VERSYM)

    @property
    def has_symbol_versions(self) -> bool:
        """Whether its symbols carry versions at all (DT_VERSYM)."""
        return bool(self._versions)

    @property
    def version_needs(self) -> Tuple[VersionNeed, ...]:
        """Every version that this file asks of its libraries (DT_VERNEED)."""
        return tuple(self._needs.values())

    def satisfies(self, need: VersionNeed) -> bool:
        """Whether the loader is content with this file for `need` (glibc `match_symbol`).

        A file that defines no versions at all satisfies every need.
        """
        if need.weak or DT_VERDEF not in self.dynamic:
            return True
        return (need.hash, need.version) in self._version_names

    def undefined(self) -> Tuple[Reference, ...]:
        """Every undefined symbol of the dynamic symbol table, looked up or not."""
        count = max(self._count_symbols(), max(self._relocated(), default=0) + 1)
        return tuple(self._undefined_of(range(1, count)))

    def references(self) -> Tuple[Reference, ...]:
        """The undefined symbols that the loader looks up: those that a relocation names.

        A symbol without a relocation is never looked up, whatever the symbol table says.
        """
        return tuple(self._undefined_of(sorted(self._relocated())))

    def defines(self, name: str, version: Optional[str] = None, version_hash: int = 0) -> bool:
        """Whether the loader, looking for `name` at `version`, takes this file's definition."""
        table = self._table
        if table is None:
            return False
        hashed = hash_name(name)
        of_another_version = 0
        for index in table.candidates(hashed):
            if not self._is_definition(index, hashed.text):
                continue
            own = self.unpack("<H", self._versions + 2 * index)[0] if self._versions else 0
            if version is not None:
                if self._has_version(own, version, version_hash):
                    return True
            elif own & INDEX < _FIRST_VERSION_AFTER_BASE:
                return True
            elif not own & HIDDEN:
                of_another_version += 1
        return of_another_version == 1

    # Of the thirty-odd libraries that a check maps, few are asked for any of these.
    @functools.cached_property
    def _table(self) -> Optional[HashTable]:
        return read_hash_table(self)

    @functools.cached_property
    def _needs(self) -> Dict[int, VersionNeed]:
        return read_needs(self)

    @functools.cached_property
    def _definitions(self) -> Dict[int, VersionDefinition]:
        return read_definitions(self)

    @functools.cached_property
    def _version_names(self) -> FrozenSet[Tuple[int, str]]:
        return frozenset((one.hash, one.version) for one in self._definitions.values())

    def _is_definition(self, index: int, name: bytes) -> bool:
        name_at, info, other, section, value, _ = self._symbol(index)
        kind, binding = info & 15, info >> 4
        if section == _UNDEFINED or kind not in _LOOKED_UP_TYPES:
            return False
        if value == 0 and section != _ABSOLUTE and kind != _TLS:
            return False
        if binding not in (_GLOBAL, _WEAK, _UNIQUE) or other & 3 in _HIDDEN_OR_INTERNAL:
            return False
        at = self.strings + name_at
        return self.data[at : at + len(name)] == name

    def _has_version(self, own: int, version: str, version_hash: int) -> bool:
        if not self._versions:
            return True
        definition = self._definitions.get(own & INDEX)
        if definition is None:
            return not own & HIDDEN
        return definition == (version, version_hash or sysv_hash(version.encode()))

    def _symbol(self, index: int) -> Tuple[int, ...]:
        return self.unpack(_SYMBOL, self.symbols + _SYMBOL_SIZE * index)

    def _count_symbols(self) -> int:
        return self._table.count_symbols() if self._table else 0

    def _undefined_of(self, indices: Sequence[int]) -> Iterator[Reference]:
        # Taken apart all at once: one by one, it was a third of a check.
        count = max(indices, default=0) + 1
        table = self.bytes_at(self.symbols, _SYMBOL_SIZE * count)
        symbols = list(struct.iter_unpack(_SYMBOL, table))
        versions: Sequence[int] = ()
        if self._versions:
            versions = struct.unpack(f"<{count}H", self.bytes_at(self._versions, 2 * count))
        for index in indices:
            name_at, info, other, section, _, _ = symbols[index]
            if section != _UNDEFINED or info >> 4 == _LOCAL or other & 3 in _HIDDEN_OR_INTERNAL:
                continue
            name, weak = self.string(name_at), info >> 4 == _WEAK
            need = self._needs.get(versions[index] & INDEX) if versions else None
            if need is None:
                yield Reference(name, None, None, 0, weak)
            else:
                yield Reference(name, need.version, need.library, need.hash, weak)

    def _relocated(self) -> Set[int]:
        """Indices of the symbols that relocations name, lazy ones too: `import` binds at once."""
        relative = self.dynamic.get(DT_RELACOUNT, 0) * _RELOCATION_SIZE
        tables = (
            (self.offset_of(DT_RELA) + relative, self.dynamic.get(DT_RELASZ, 0) - relative),
            (self.offset_of(DT_JMPREL), self.dynamic.get(DT_PLTRELSZ, 0)),
        )
        found: Set[int] = set()
        for offset, size in tables:
            if size > 0:
                with memoryview(self.bytes_at(offset, size - size % _RELOCATION_SIZE)) as raw:
                    words = raw.cast("I")
                    pairs = set(zip(words[2::6], words[3::6]))
                found.update(symbol for kind, symbol in pairs if kind != _RELOCATION_NONE)
        found.discard(0)
        return found
