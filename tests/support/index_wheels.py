"""Wheels for the index's tests: sound in name, metadata and RECORD, with nothing to load in them.

wheel = write_wheel(tmp_path, "torch", "2.11.0")          # any distribution
made = write_cell_wheel(tmp_path, build_tag=2)            # apex of a cell, and its entry
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from apex_installer.model.cell import Cell
from apex_installer.model.entry import Entry, Module
from wheelbuild.variants import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

CELL = "cp311-torch2.11-cu130-linux_x86_64"
DATE = "20260708"


@dataclass(frozen=True)
class CellWheel:
    path: Path
    entry: Entry


def write_wheel(
    directory: Path,
    name: str,
    version: str,
    *,
    tag: str = "py3-none-any",
    build_tag: int = 0,
    requires: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write a wheel; `files` overrules members by name, its METADATA, WHEEL and RECORD too."""
    info = f"{name}-{version}.dist-info"
    build = f"Build: {build_tag}\n" if build_tag else ""
    members = {
        f"{name}/__init__.py": f"version = {version!r}\n",
        f"{info}/METADATA": "\n".join(
            ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
            + [f"Requires-Dist: {requirement}" for requirement in requires]
            + ["", ""]
        ),
        f"{info}/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n{build}Tag: {tag}\n"
        ),
        **(files or {}),
    }
    record = f"{info}/RECORD"
    if record not in members:
        rows = [f"{file},{_digest(text.encode())},{len(text)}" for file, text in members.items()]
        members[record] = "\n".join([*rows, f"{record},,", ""])
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}{f'-{build_tag}' if build_tag else ''}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in members.items():
            archive.writestr(zipfile.ZipInfo(file, (2026, 7, 8, 0, 0, 0)), text)
    return path


def cell_version(cell: str = CELL, *, suffix: str = "", date: str = DATE) -> str:
    """`0.1+20260708.cu130.torch2.11`, with the suffix."""
    if cell == "python":
        return f"0.1+{date}.python"
    parsed = Cell.parse(cell)
    ending = f".{suffix}" if suffix else ""
    return f"0.1+{date}.{parsed.cuda_tag}.torch{parsed.torch_text}{ending}"


def write_cell_wheel(
    directory: Path,
    *,
    cell: str = CELL,
    suffix: str = "",
    date: str = DATE,
    version: str | None = None,
    build_tag: int = 0,
    inputs: str = "first",
    requires: Sequence[str] | None = None,
    files: Mapping[str, str] | None = None,
    variant: str = "",
    **fields: object,
) -> CellWheel:
    """A wheel as the stamp step leaves it, and its entry; `inputs` stands for the build's key.

    `variant`: the label (`sm90`) of one that holds code for that alone, in a folder of its own.
    """
    if variant:
        info = f"apex-{version or cell_version(cell, suffix=suffix, date=date)}.dist-info"
        files = {f"{info}/variant.json": describe([variant]).decode(), **(files or {})}
        inputs, directory = f"{inputs} {variant}", directory / variant
    parsed = None if cell == "python" else Cell.parse(cell)
    if requires is None:
        requires = [f"torch=={parsed.torch_text}.*"] if parsed else []
        requires.append("packaging>20.6")
    path = write_wheel(
        directory,
        "apex",
        version or cell_version(cell, suffix=suffix, date=date),
        tag=f"{parsed.python}-{parsed.python}-{parsed.platform}" if parsed else "py3-none-any",
        build_tag=build_tag,
        requires=requires,
        files={"apex/inputs.py": f"# {inputs}\n", **(files or {})},
    )
    entry = entry_of(path, cell=cell, suffix=suffix, inputs=inputs, requires=tuple(requires))
    if variant:
        path = path.rename(path.with_name(f"{path.stem}-{variant}.whl"))
        arch = f"{variant[2:-1]}.{variant[-1]}"
        own = tuple(replace(one, machine_code=(arch,), ptx=()) for one in entry.modules)
        entry = replace(entry, file=path.name, modules=own, variant=variant)
    return CellWheel(path, replace(entry, **fields))


def entry_of(
    path: Path, *, cell: str, suffix: str, inputs: str, requires: tuple[str, ...]
) -> Entry:
    """What the stamp step would say of the wheel: true in what the file says of itself."""
    parsed = None if cell == "python" else Cell.parse(cell)
    version, build_tag = re.match(r"[^-]+-([^-]+)(?:-(\d+))?-[cp]", path.name).groups()
    with zipfile.ZipFile(path) as archive:
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        sidecar = archive.read(metadata)
    module = Module(
        name="fused_layer_norm_cuda",
        file="fused_layer_norm_cuda.so",
        machine_code=("8.0", "9.0"),
        ptx=("9.0",),
        needed=("libc10.so",),
    )
    return Entry(
        file=path.name,
        url="",
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        metadata_sha256=hashlib.sha256(sidecar).hexdigest(),
        uploaded="",
        cell=cell,
        torch=f"{parsed.torch_text}.0+{parsed.cuda_tag}" if parsed else "",
        torch_git=40 * "1" if parsed else "",
        cxx11_abi=True,
        key=hashlib.sha256(f"{cell} {suffix} {inputs}".encode()).hexdigest(),
        distribution="apex",
        version=version,
        build_tag=int(build_tag or 0),
        suffix=suffix,
        ref=40 * "2",
        modules=(module,) if parsed else (),
        floors={"GLIBC": "2.28"},
        symbols_digest=64 * "a",
        requires=requires,
        tests={"gpu": "untested"},
    )


def write_simple_index(root: Path, wheels: Iterable[Path]) -> Path:
    """A plain PEP 503 index beside the files: what stands for PyPI. Returns its `simple` folder."""
    projects: dict[str, list[Path]] = {}
    for wheel in wheels:
        projects.setdefault(wheel.name.partition("-")[0].replace("_", "-"), []).append(wheel)
    for name, found in projects.items():
        page = root / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        links = []
        for wheel in found:
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            (root / wheel.name).write_bytes(wheel.read_bytes())
            links.append(
                f'<a href="../../{wheel.name}#sha256={digest}">{html.escape(wheel.name)}</a>'
            )
        page.write_text(f"<!DOCTYPE html><html><body>{'<br>'.join(links)}</body></html>")
    return root / "simple"


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"
