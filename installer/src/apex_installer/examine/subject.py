"""What `doctor SUBJECT` names: an address, a wheel, a module, a folder or an import name."""

from __future__ import annotations

import os
import re
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from apex_installer.errors import UsageError
from apex_installer.examine.facts import Found
from apex_installer.put.names import normalized
from apex_installer.put.wheel_rules import parse_fields

_NAME = re.compile(r"^[A-Za-z_][\w-]*(\.[A-Za-z_]\w*)*$")
_OBJECT = re.compile(r"\.so(\.\d+)*$")
_METADATA = re.compile(r"^(.+?)-([^-]+)(?:-py\d.*)?\.(?:dist-info|egg-info)$")
STANDIN = "__apex_fallback__"
"""What a stand-in says of itself; a file that only says what is absent does not."""
ELF, ZIP = b"\x7fELF", b"PK"


class Subject(NamedTuple):
    """All that is examined, and what surrounds it."""

    kind: str
    """`wheel`, `module` or `package`."""
    name: str
    """Distribution or import name."""
    version: str
    where: str
    """For people: a path or an address."""
    root: str
    """The folder that holds the modules as `sys.path` would."""
    found: Tuple[Found, ...] = ()
    tags: Tuple[str, ...] = ()
    """Of a wheel: `cp310-cp310-linux_x86_64`."""
    requires: Tuple[str, ...] = ()
    names: Optional[Tuple[str, ...]] = None
    """Of a wheel: everything in it; else what lies below `root` counts."""
    notes: Tuple[str, ...] = ()
    is_ours: bool = False
    """Whether it goes by the name of the recipe's package, whoever made it."""

    @property
    def title(self) -> str:
        """`apex 0.1`."""
        return f"{self.name} {self.version}".strip()

    def holds(self, file: str) -> bool:
        """Whether a file, or a folder with something in it, is there; a path as in a wheel."""
        if self.names is None:
            return os.path.exists(os.path.join(self.root, file))
        return any(name == file or name.startswith(f"{file}/") for name in self.names)

    def has_standin(self, module: str) -> bool:
        """Whether a Python file stands for this module, and says so."""
        file = f"{module}.py"
        return self.holds(file) and STANDIN in _text(os.path.join(self.root, file))

    @property
    def made_for(self) -> str:
        """The torch minor that its version, file name or requirement names: `2.4`; or empty."""
        texts = [f"{self.version} {os.path.basename(self.where)}", *self.requires]
        for text in texts:
            match = re.search(r"torch(\d+\.\d+)|^torch\s*\(?==\s*(\d+\.\d+)", text)
            if match:
                return match.group(1) or match.group(2)
        return ""


def kind_of_file(path: str) -> str:
    """`wheel` or `module` by the first bytes; empty for anything else. OSError passes."""
    with open(path, "rb") as file:
        head = file.read(4)
    return "module" if head == ELF else "wheel" if head[:2] == ZIP else ""


def is_path(text: str) -> bool:
    """Whether a subject is meant as a path: by a slash, an ending, or as no name can be.

    A folder of the package's name in a checkout does not stand for what is installed.
    """
    return "/" in text or text.endswith((".whl", ".so")) or not _NAME.match(text)


def is_object(name: str) -> bool:
    """Whether a file name is one of a shared object: `_C.abi3.so`, `libx.so.2`."""
    return _OBJECT.search(name) is not None


def module_subject(path: str) -> Subject:
    """One module's file."""
    base = os.path.basename(path)
    name = base.partition(".")[0]
    return Subject(
        "module", name, "", path, os.path.dirname(path), found=(Found(name, base, path),)
    )


def folder_subject(folder: str) -> Subject:
    """All shared objects below a folder."""
    return Subject(
        "package",
        os.path.basename(folder),
        "",
        folder,
        os.path.dirname(folder),
        found=tuple(_below(folder, os.path.dirname(folder))),
    )


def find_package(name: str, path: Sequence[str], *, suffix: str, extra: Iterable[str]) -> Subject:
    """An import name (or that of a distribution), as `sys.path` finds it, with all its modules.

    `extra`: top-level modules that belong to it, for installs that list nothing. UsageError where
    there is none.
    """
    for directory in dict.fromkeys(path):
        if os.path.isdir(directory):
            found = _in_directory(name, directory, suffix, extra)
            if found is not None:
                return found
    raise UsageError(
        f"no {name} on the app's sys.path ({len(path)} places), and no file of that name here"
    )


def _in_directory(
    name: str, directory: str, suffix: str, extra: Iterable[str]
) -> Optional[Subject]:
    base = os.path.join(directory, *name.split("."))
    infos = _metadata(directory)
    if not _importable(base, suffix):
        owner = next(
            (info for info in infos if normalized(_parts(info)[0]) == normalized(name)), ""
        )
        listed = _listed(directory, owner) if owner else ()
        if not listed:
            return None
        return _subject(name, directory, owner, listed, directory)
    top = name.partition(".")[0]
    owner = _owner(directory, infos, top)
    listed = _listed(directory, owner) if owner and "." not in name else ()
    own = [*_beside(base, suffix, directory), *(_below(base, directory))]
    named = [
        one
        for module in extra
        for one in _beside(os.path.join(directory, module), suffix, directory)
    ]
    return _subject(name, directory, owner, [*own, *listed, *named], base)


def _subject(name: str, directory: str, info: str, found: Iterable[Found], where: str) -> Subject:
    requires: Tuple[str, ...] = ()
    version = _parts(info)[1] if info else ""
    if info:
        fields = parse_fields(_text(os.path.join(directory, info, "METADATA")).encode())
        requires = tuple(fields.get("requires-dist", ()))
    once: Dict[str, Found] = {}
    for one in found:
        once.setdefault(os.path.realpath(one.path), one)
    return Subject(
        "package", name, version, where, directory, found=tuple(once.values()), requires=requires
    )


def for_one_python(found: Iterable[Found], suffix: str) -> Tuple[Found, ...]:
    """Of builds of one module for several Pythons side by side, the one that Python would take."""
    best: Dict[str, Found] = {}
    for one in found:
        other = best.get(one.name)
        if other is None or _rank(one.file, suffix) < _rank(other.file, suffix):
            best[one.name] = one
    return tuple(best.values())


def _rank(file: str, suffix: str) -> int:
    """As `importlib` tries endings: the interpreter's own, abi3, none; then those of others."""
    if file.endswith(suffix):
        return 0
    return 1 if file.endswith(".abi3.so") else 2 if ".cpython-" not in file else 3


def _importable(base: str, suffix: str) -> bool:
    return (
        os.path.isdir(base)
        or os.path.isfile(f"{base}.py")
        or any(os.path.isfile(f"{base}{ending}") for ending in (suffix, ".abi3.so", ".so"))
    )


def _beside(base: str, suffix: str, directory: str) -> Iterator[Found]:
    """The module file of that name itself, the one that Python would take."""
    for ending in (suffix, ".abi3.so", ".so"):
        if os.path.isfile(f"{base}{ending}"):
            file = os.path.relpath(f"{base}{ending}", directory)
            yield Found(import_name(file), file, f"{base}{ending}")
            return
    folder, stem = os.path.split(base)
    for name in _list(folder):
        if name.startswith(f"{stem}.cpython-") and is_object(name):
            path = os.path.join(folder, name)
            yield Found(import_name(name), os.path.relpath(path, directory), path)


def _below(folder: str, root: str) -> Iterator[Found]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if is_object(name):
                path = os.path.join(parent, name)
                file = os.path.relpath(path, root)
                yield Found(import_name(file), file, path)


def import_name(file: str) -> str:
    """`a/b/_C.cpython-310-x86_64-linux-gnu.so` -> `a.b._C`."""
    folder, _, base = file.rpartition("/")
    return ".".join(
        [*folder.split("/"), base.partition(".")[0]] if folder else [base.partition(".")[0]]
    )


def _metadata(directory: str) -> List[str]:
    return [name for name in _list(directory) if _METADATA.match(name)]


def _parts(info: str) -> Tuple[str, str]:
    match = _METADATA.match(info)
    return (match.group(1), match.group(2)) if match else (info, "")


def _owner(directory: str, infos: Sequence[str], top: str) -> str:
    """The metadata of the distribution that brought a top-level name: by its name, else RECORD."""
    for info in infos:
        if normalized(_parts(info)[0]) == normalized(top):
            return info
    for info in infos:
        record = _text(os.path.join(directory, info, "RECORD"))
        if re.search(rf"^{re.escape(top)}(/|\.)", record, re.MULTILINE):
            return info
    return ""


def _listed(directory: str, info: str) -> Tuple[Found, ...]:
    """Shared objects of a distribution by its RECORD, else by its top-level names."""
    record = _text(os.path.join(directory, info, "RECORD"))
    files = [line.partition(",")[0] for line in record.splitlines()]
    files = [file for file in files if is_object(file) and not file.startswith("..")]
    if not record:
        tops = _text(os.path.join(directory, info, "top_level.txt")).split()
        files = [
            name for name in _list(directory) if is_object(name) and name.partition(".")[0] in tops
        ]
    paths = [(file, os.path.join(directory, file)) for file in files]
    return tuple(Found(import_name(f), f, path) for f, path in paths if os.path.isfile(path))


def _list(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
