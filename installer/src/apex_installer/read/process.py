"""A process that imported torch, as the loader would have filled it: what is loaded, and as what.

Nothing is loaded. `Process` follows glibc's `dlopen`: names first among what is loaded already,
then the folders in the loader's order, breadth first through the dependencies. What
`import torch` opens is in `torch/__init__.py` (`_load_global_deps`, `_preload_cuda_deps`).
"""

from __future__ import annotations

import os
import re
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from apex_installer.closing import Closing
from apex_installer.errors import CheckError
from apex_installer.read.elf import ElfFile
from apex_installer.read.elf_image import MACHINES
from apex_installer.read.ld_paths import (
    default_folders,
    expand_folders,
    library_path,
    read_cache,
)
from apex_installer.read.torch_preloads import Preloads
from apex_installer.values import dataclass


class Library:
    """One mapped file of the process; compared by identity."""

    def __init__(self, elf: ElfFile, loader: Optional[Library], *, origin: str) -> None:
        """`loader` asked for it first: its DT_RPATH counts for this one's dependencies too."""
        self.elf = elf
        self.loader = loader
        self.origin = origin
        self.names: Set[str] = set()
        """By which it was asked for; version needs are matched against these."""


@dataclass(frozen=True)
class Opened:
    """What opening one file brings."""

    scope: Tuple[Library, ...]
    """The file and its dependencies, breadth first."""
    new: Tuple[Library, ...]
    """Those that were not there before: the loader checks and relocates them."""
    lost: Tuple[Tuple[Library, str], ...]
    """(who asks, soname) of each dependency that was not found."""
    named: Mapping[str, Library]
    """Everything that is loaded then, by the names it was asked for."""


class Process(Closing):
    """The state of a process; a context manager that unmaps everything at its end."""

    def __init__(self, *, machine: str, environ: Mapping[str, str], executable: str) -> None:
        """Start `executable` (its links resolved, as the kernel does) with its dependencies."""
        self.global_scope: List[Library] = []
        self._machine = machine
        self._elves: Dict[str, ElfFile] = {}
        self._files: Dict[Tuple[int, int], Library] = {}
        self._names: Dict[str, Library] = {}
        self._caller: Optional[Library] = None
        self._cache: Optional[Dict[str, str]] = None
        self._preloads: Optional[Preloads] = None
        self._torch_is_loaded = False
        real = os.path.realpath(executable)
        self._environ_folders = library_path(environ, origin=os.path.dirname(real), machine=machine)
        try:
            self._add_globally(real)
            self._caller = self._libpython() or self.global_scope[0]
            for name in re.split(r"[:\s]+", environ.get("LD_PRELOAD", "")):
                self._load(name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unmap every file."""
        for elf in self._elves.values():
            elf.close()
        self._elves.clear()

    def import_torch(self, directory: str, *, extension_suffix: str, path: Sequence[str]) -> None:
        """Load what `import torch` loads: its global dependencies for all, its bindings for itself.

        What of torch itself is not found is passed over: that torch imports is taken for granted.
        """
        self._preloads = Preloads(directory, path)
        self._load(os.path.join(directory, "lib", "libtorch_global_deps.so"))
        bindings = os.path.join(directory, "_C" + extension_suffix)
        if os.path.exists(bindings):
            self._open(bindings)
        self._torch_is_loaded = True

    def open(self, path: str) -> Opened:
        """What `dlopen(path)` would bring; the process stays as it was."""
        files, names = dict(self._files), dict(self._names)
        asked_for = [(library, set(library.names)) for library in files.values()]
        try:
            return self._open(path)
        finally:
            self._files, self._names = files, names
            for library, known in asked_for:
                library.names = known

    def forget_pages(self) -> None:
        """Give back what was read so far: around each page that is asked for, 64 KiB are mapped."""
        for elf in self._elves.values():
            elf.forget_pages()

    def _libpython(self) -> Optional[Library]:
        """The library that calls `dlopen` for `import`, where the interpreter is a shared one."""
        found = [name for name in self._names if name.startswith("libpython")]
        return self._names[found[0]] if found else None

    def _load(self, path: str) -> None:
        """Open for everyone (RTLD_GLOBAL, LD_PRELOAD); what is not there is passed over."""
        if os.path.exists(path):
            self._add_globally(path)

    def _add_globally(self, path: str) -> None:
        for library in self._open(path).scope:
            if library not in self.global_scope:
                self.global_scope.append(library)

    def _open(self, path: str) -> Opened:
        first, is_new = self._map(path, name=path, loader=self._caller)
        scope, lost = [first], []
        new = [first] if is_new else []
        for library in scope:  # grows while it is walked: breadth first
            for soname in library.elf.needed:
                found, is_new = self._find(soname, library)
                if found is None:
                    lost.append((library, soname))
                elif found not in scope:
                    scope.append(found)
                    new += [found] if is_new else []
        named = {name: library for library in self._files.values() for name in library.names}
        return Opened(tuple(scope), tuple(new), tuple(lost), named)

    def _find(self, soname: str, loader: Library) -> Tuple[Optional[Library], bool]:
        """A library that is loaded under that name, else the first file of the search."""
        known = self._names.get(soname)
        if known is not None:
            known.names.add(soname)
            return known, False
        for path in self._candidates(soname, loader):
            try:
                return self._map(path, name=soname, loader=loader)
            except (OSError, CheckError):
                continue
        return None, False

    def _candidates(self, soname: str, loader: Library) -> Iterator[str]:
        """Paths in the loader's order: rpaths, environment, runpath, cache, defaults."""
        if "/" in soname:
            yield from self._expand(soname, loader)
            return
        if self._torch_is_loaded:
            yield from self._preloaded(soname)
        for folder in self._folders(loader):
            yield f"{folder}/{soname}"
        if self._cache is None:
            self._cache = read_cache(self._machine)
        if soname in self._cache:
            yield self._cache[soname]
        for folder in default_folders(self._machine):
            yield f"{folder}/{soname}"
        yield from self._preloaded(soname)

    def _preloaded(self, soname: str) -> Tuple[str, ...]:
        path = self._preloads.find(soname) if self._preloads else None
        return (path,) if path else ()

    def _folders(self, loader: Library) -> Iterator[str]:
        if loader.elf.runpath is None:
            asks: Optional[Library] = loader
            while asks is not None:
                yield from self._expand(asks.elf.rpath, asks)
                asks = asks.loader
        yield from self._environ_folders
        yield from self._expand(loader.elf.runpath, loader)

    def _expand(self, text: Optional[str], library: Library) -> Tuple[str, ...]:
        return expand_folders(text, origin=library.origin, machine=self._machine)

    def _map(self, path: str, *, name: str, loader: Optional[Library]) -> Tuple[Library, bool]:
        elf = self._read(path)
        library = self._files.get(elf.identity)
        is_new = library is None
        if library is None:
            library = Library(elf, loader, origin=os.path.dirname(os.path.abspath(path)))
            self._files[elf.identity] = library
        library.names.add(name)
        for known in (name, elf.soname):
            if known is not None:
                self._names.setdefault(known, library)
        return library, is_new

    def _read(self, path: str) -> ElfFile:
        """One mapping per path; a file for another machine is passed over as the search does."""
        if path not in self._elves:
            elf = ElfFile(path)
            if elf.machine != MACHINES.get(self._machine, elf.machine):
                elf.close()
                raise CheckError(f"{path}: is for another machine than {self._machine}")
            self._elves[path] = elf
        return self._elves[path]
