"""The symbol check: what the loader would miss in a process that imported torch.

Every symbol that a module has looked up must be defined by the interpreter, by what `import torch`
puts into the global scope, or by a library in the module's own dependency closure; every needed
library must be found, and every needed symbol version be defined in it. The same holds for each
library that the module brings along. Nothing is loaded.
"""

from __future__ import annotations

import os
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from apex_installer.model.environment import Interpreter, Torch
from apex_installer.read.blame import library_for
from apex_installer.read.demangle import demangle
from apex_installer.read.elf import Reference
from apex_installer.read.process import Library, Opened, Process
from apex_installer.values import dataclass


@dataclass(frozen=True)
class MissingSymbol:
    """One thing that the loader would miss."""

    module: str
    """File name of the module, or of the library that it brings along."""
    kind: str
    """`symbol`, `version` or `library`."""
    name: str
    """The mangled symbol, the version (`GLIBCXX_3.4.32`) or the soname."""
    version: Optional[str]
    """Of a symbol."""
    library: Optional[str]
    """The soname that should have had it, where that can be told."""
    torch: str
    """The torch that was looked at: `2.11.0+cu130`; empty without one."""
    instead: Optional[str] = None
    """A library of the same name but another version that is there."""

    @property
    def line(self) -> str:
        """For people: what is missing, demangled, and who should have had it."""
        if self.kind == "library":
            other = f"; here is {self.instead}" if self.instead else ""
            return f"{self.module} needs {self.name}, which is not found{other}"
        if self.kind == "version":
            return f"{self.module} needs {self.name}, which {self.library} here does not define"
        version = f", version {self.version}" if self.version else ""
        owner = f"{self.library} does not define it" if self.library else "no library defines it"
        if self.library and self.library.startswith(("libtorch", "libc10")):
            owner = f"{self.library} of torch {self.torch} does not define it"
        return f"{self.module}: undefined symbol {demangle(self.name)}{version}: {owner}"


def check_symbols(
    modules: Sequence[str],
    *,
    interpreter: Interpreter,
    torch: Optional[Torch],
    environ: Optional[Mapping[str, str]] = None,
) -> Tuple[MissingSymbol, ...]:
    """Everything that `dlopen(module, RTLD_NOW)` would miss, module by module; empty if nothing.

    Without a `torch`, in a process that imported none. CheckError for a module that is no ELF file
    of this machine. `environ` is the app's, for LD_LIBRARY_PATH and LD_PRELOAD; without it ours.
    """
    version = torch.version if torch else ""
    machine = interpreter.platform.partition("_")[2]
    missing: List[MissingSymbol] = []
    with Process(
        machine=machine,
        environ=os.environ if environ is None else environ,
        executable=interpreter.executable,
    ) as process:
        if torch:
            process.import_torch(
                torch.directory,
                extension_suffix=interpreter.extension_suffix,
                path=interpreter.path,
            )
        lookup = Lookup(process.global_scope)
        for module in modules:
            process.forget_pages()  # 4 MiB at the peak in place of 10
            opened = process.open(module)
            missing += _missing_libraries(opened, version)
            missing += _missing_versions(opened, version)
            missing += _missing_symbols(opened, lookup, version)
    return tuple(dict.fromkeys(missing))


class Lookup:
    """Finds who defines a reference, and remembers it: modules ask for the same few hundred."""

    def __init__(self, global_scope: Sequence[Library]) -> None:
        """Every lookup has the global scope, and the scope of what was opened."""
        self._global_scope = tuple(global_scope)
        self._definer: Dict[Reference, Library] = {}

    def undefined(
        self, references: Iterable[Reference], scope: Sequence[Library]
    ) -> Iterator[Reference]:
        """Those that must be defined and are nowhere."""
        reached = frozenset((*scope, *self._global_scope))
        for reference in references:
            if reference.weak or self._definer.get(reference) in reached:
                continue
            definer = self._find(reference, scope)
            if definer is None:
                yield reference
            else:
                self._definer[reference] = definer

    def _find(self, reference: Reference, scope: Sequence[Library]) -> Optional[Library]:
        # The loader begins in the global scope; whether there is a definition is the same in any
        # order, and C++ names are seldom the interpreter's.
        scopes = (scope, self._global_scope)
        first, second = scopes if reference.name.startswith("_Z") else reversed(scopes)
        for library in (*first, *second):
            if library.elf.defines(reference.name, reference.version, reference.version_hash):
                return library
        return None


def _missing_libraries(opened: Opened, torch: str) -> Iterator[MissingSymbol]:
    for asks, soname in opened.lost:
        stem = soname.partition(".so")[0] + ".so"
        here = sorted(name for name in opened.named if name.startswith(stem) and "/" not in name)
        yield MissingSymbol(
            module=os.path.basename(asks.elf.path),
            kind="library",
            name=soname,
            version=None,
            library=soname,
            torch=torch,
            instead=here[0] if here else None,
        )


def _missing_versions(opened: Opened, torch: str) -> Iterator[MissingSymbol]:
    lost = {soname for _, soname in opened.lost}
    for library in opened.new:
        for need in library.elf.version_needs:
            provider = opened.named.get(need.library)
            # One that is not loaded at all ends the process in an assertion of the loader's.
            if provider is None and need.library in lost:
                continue
            if provider is None or not provider.elf.satisfies(need):
                yield MissingSymbol(
                    module=os.path.basename(library.elf.path),
                    kind="version",
                    name=need.version,
                    version=None,
                    library=need.library,
                    torch=torch,
                )


def _missing_symbols(opened: Opened, lookup: Lookup, torch: str) -> Iterator[MissingSymbol]:
    for library in opened.new:
        for reference in lookup.undefined(library.elf.references(), opened.scope):
            yield MissingSymbol(
                module=os.path.basename(library.elf.path),
                kind="symbol",
                name=reference.name,
                version=reference.version,
                library=reference.library or library_for(reference.name),
                torch=torch,
            )
