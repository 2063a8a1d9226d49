"""Tiny wheels that are valid in every respect, each with its entry; and the same with one fault.

    made = make_wheel(tmp_path)                       # apex, one module, cp311, torch 2.11, cu130
    made = make_wheel(tmp_path, fault="symlink")      # see FAULTS; the entry's digest is the file's
    made.path, made.entry, tiny_recipe()

The modules are bytes with an ELF magic number and no more: good for everything that does not load
them. Pass `module_bytes={"fused_layer_norm_cuda": open(real, "rb").read()}` for real ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import warnings
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.model.cell import Cell
from apex_installer.model.entry import Document, Entry, Module
from apex_installer.model.environment import Devices, Environment, Interpreter, Torch
from apex_installer.model.recipe import Recipe
from support.wheel_faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CELL = "cp311-torch2.11-cu130-linux_x86_64"
VERSION = "0.1+20260708.cu130.torch2.11"
TORCH = "2.11.0+cu130"
TORCH_GIT = "70d99e998b4955e0049d13a98d77ae1b14db1f45"
REF = "6424da3b" + 32 * "0"
MODULE = "fused_layer_norm_cuda"
ARCHITECTURES = ("8.0", "9.0")
DATE = (2026, 7, 8, 0, 0, 0)


@dataclass(frozen=True)
class MadeWheel:
    """A wheel on disk and the entry that an index would hold for it."""

    path: Path
    entry: Entry


@dataclass
class Member:
    """One file to go into the archive."""

    name: str
    data: bytes
    mode: int = stat.S_IFREG | 0o644


def tiny_recipe(**changes: object) -> Recipe:
    """What the thin part knows of the package that these wheels hold."""
    data = {
        "distribution": "apex",
        "package": "apex",
        "provides": {"apex.normalization.FusedRMSNorm": [MODULE]},
        "groups": {"norm": [MODULE], "default": [MODULE]},
        "required_by_default": [MODULE],
        "requirements": {"*": []},
        "run_checks": {},
        **changes,
    }
    return Recipe.from_json(json.dumps(data))


def tiny_environment(target: Path | str, *, gpus: tuple = (), **torch: object) -> Environment:
    """An environment that the default wheel fits; `torch` changes fields of its Torch."""
    values = {
        "directory": str(Path(target) / "torch"),
        "version": TORCH,
        "git": TORCH_GIT,
        "cuda": "13.0",
        "cxx11_abi": True,
        **torch,
    }
    interpreter = Interpreter(
        executable="/usr/bin/python3",
        tag="cp311",
        version="3.11.7",
        platform="linux_x86_64",
        extension_suffix=".cpython-311-x86_64-linux-gnu.so",
        path=(str(target),),
        purelib=str(target),
    )
    return Environment(
        interpreter=interpreter,
        torch=Torch(**values),
        devices=Devices(gpus=tuple(gpus), source="none"),
        target=str(target),
        glibc=(2, 36),
    )


def make_wheel(
    directory: Path,
    *,
    fault: str | None = None,
    version: str = VERSION,
    cell: str = CELL,
    modules: Sequence[str] = (MODULE,),
    module_bytes: Mapping[str, bytes] | None = None,
    python_files: Mapping[str, str] | None = None,
    architectures: tuple[str, ...] = ARCHITECTURES,
    build_tag: int = 0,
    suffix: str = "",
    variant: str = "",
    **entry_fields: object,
) -> MadeWheel:
    """Write `<directory>/<wheel>`; `fault` is a key of FAULTS, `entry_fields` overrule the entry's.

    The entry tells the truth about the file (size and sha256 of what was written) unless the fault
    is one of the entry itself. `cell="python"` makes a Python-only wheel.
    """
    parsed = None if cell == "python" else Cell.parse(cell)
    tag = f"{parsed.python}-{parsed.python}-{parsed.platform}" if parsed else "py3-none-any"
    build = f"-{build_tag}" if build_tag else ""
    contents = Contents(version=version, tag=tag, build_tag=build_tag)
    contents.add_python(python_files)
    if parsed:
        contents.add_modules(modules, parsed.python, module_bytes or {})
    entry = Entry(
        file=f"apex-{version}{build}-{tag}{f'-{variant}' if variant else ''}.whl",
        url="",
        size=0,
        sha256=64 * "0",
        metadata_sha256=hashlib.sha256(contents.metadata).hexdigest(),
        uploaded="2026-11-24T04:00:00Z",
        cell=cell,
        torch=TORCH if parsed else "",
        torch_git=TORCH_GIT if parsed else "",
        cxx11_abi=True,
        key=hashlib.sha256(
            repr((cell, version, tuple(modules), architectures)).encode()
        ).hexdigest(),
        distribution="apex",
        version=version,
        build_tag=build_tag,
        suffix=suffix,
        ref=REF,
        modules=tuple(
            Module(
                name=name,
                file=contents.module_file(name, parsed.python),
                machine_code=architectures,
                ptx=(),
                needed=("libc10.so", "libtorch_cpu.so"),
            )
            for name in (modules if parsed else ())
        ),
        floors={"GLIBC": "2.28"},
        symbols_digest=64 * "a",
        requires=("packaging>20.6",),
        tests={"gpu": "untested"},
        variant=variant,
    )
    before, after = FAULTS[fault] if fault else (None, None)
    if before:
        before(contents)
    path = directory / entry.file
    directory.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    contents.write(path)
    if after:
        path.write_bytes(after(path.read_bytes()))
    return MadeWheel(path, _entry_of_file(path, entry, fault, entry_fields))


def _entry_of_file(path: Path, entry: Entry, fault: str | None, fields: dict) -> Entry:
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    true = replace(entry, size=len(data), sha256=digest, url=f"../../files/{digest}/{entry.file}")
    if fault == "entry-wrong-hash":
        true = replace(true, sha256=64 * "0")
    if fault == "entry-wrong-size":
        true = replace(true, size=true.size + 1)
    return replace(true, **fields)


def write_document(
    root: Path, wheels: Sequence[MadeWheel], *, cell: str = CELL, index_path: str | None = None
) -> Path:
    """The installer's document and the files it names, as an index holds them; returns its path."""
    parsed = Cell.parse(cell)
    where = root / (index_path or parsed.index_path)
    where.mkdir(parents=True, exist_ok=True)
    for made in wheels:
        file = root / "files" / made.entry.sha256 / made.entry.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(made.path.read_bytes())
    document = Document(parsed.index_path, parsed.python, tuple(made.entry for made in wheels))
    path = where / Document.name_for(parsed.python)
    path.write_text(json.dumps(document.to_json()))
    return path


class Contents:
    """The members of a wheel to be, and its RECORD."""

    def __init__(self, *, version: str, tag: str, build_tag: int) -> None:
        self.dist_info = f"apex-{version}.dist-info"
        self.members: list[Member] = []
        self.record_rows: list[str] | None = None
        requires = "Requires-Dist: packaging>20.6\n"
        self.metadata = (
            f"Metadata-Version: 2.1\nName: apex\nVersion: {version}\n{requires}\n".encode()
        )
        pure = "true" if tag == "py3-none-any" else "false"
        build = f"Build: {build_tag}\n" if build_tag else ""
        wheel = (
            f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: {pure}\n{build}Tag: {tag}\n"
        )
        self.add(f"{self.dist_info}/METADATA", self.metadata)
        self.add(f"{self.dist_info}/WHEEL", wheel.encode())
        self.add(f"{self.dist_info}/licenses/LICENSE", b"BSD-3-Clause\n")
        self.tag, self.version = tag, version

    def add(self, name: str, data: bytes, mode: int = stat.S_IFREG | 0o644) -> None:
        self.members.append(Member(name, data, mode))

    def add_python(self, files: Mapping[str, str] | None) -> None:
        if files is None:
            files = {
                "apex/__init__.py": f"from apex import normalization\nversion = {self.version!r}\n",
                "apex/normalization/__init__.py": f"# {self.version}\nclass FusedRMSNorm: ...\n",
                "apex/normalization/deep/er.py": f"value = {self.version!r}\n",
            }
        for name, text in files.items():
            self.add(name, text.encode())

    def module_file(self, name: str, python: str) -> str:
        return f"{name}.cpython-{python[2:]}-x86_64-linux-gnu.so"

    def add_modules(self, names: Sequence[str], python: str, data: Mapping[str, bytes]) -> None:
        for name in names:
            content = data.get(name, b"\x7fELF" + f"{name} {self.version}".encode() * 50)
            self.add(self.module_file(name, python), content, stat.S_IFREG | 0o755)

    def member(self, ending: str) -> Member:
        return next(member for member in self.members if member.name.endswith(ending))

    def record(self) -> str:
        rows = [f"{m.name},{_digest(m.data)},{len(m.data)}" for m in self.members]
        return "\n".join([*rows, f"{self.dist_info}/RECORD,,", ""])

    def freeze_record(self, change: Callable[[list[str]], list[str]]) -> None:
        """Fix RECORD as it is now, changed; members that are altered later no longer agree."""
        self.record_rows = change(self.record().splitlines())

    def write(self, path: Path) -> None:
        record = self.record() if self.record_rows is None else "\n".join([*self.record_rows, ""])
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
            warnings.simplefilter("ignore")  # a duplicate is meant
            for member in [*self.members, Member(f"{self.dist_info}/RECORD", record.encode())]:
                info = zipfile.ZipInfo("placeholder", DATE)
                info.filename = member.name  # after construction, which would cut at NUL
                info.external_attr = member.mode << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, member.data)


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"
