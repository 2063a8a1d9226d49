"""Reads `matrix.toml`: facts of each torch, and the cells that are wanted of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apex_installer.errors import UsageError as ArchitectureError
from apex_installer.model.arch import Architectures, Version, version_text
from apex_installer.model.cell import Cell
from wheelbuild.document import NO_VERSION, near
from wheelbuild.matrix import Exclusion, Matrix, Row
from wheelbuild.toolkits import ARCHITECTURE

if TYPE_CHECKING:
    from wheelbuild.document import Document, Place, Table

PYTHON = r"cp3\d+t?"
POLICY = r"manylinux_\d+_\d+"
INDEX = r"(https|file)://[^{}]+"
NONE = Architectures()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Build:
    """One CUDA build of a torch."""

    index: str
    policy: str
    cxx11_abi: bool
    architectures: Architectures


@dataclass(frozen=True, kw_only=True, slots=True)
class _Torch:
    """What is known of a torch minor."""

    release: str
    pythons: tuple[str, ...]
    architectures: tuple[str, ...]
    """What its extension builder accepts and its own kernels run on."""
    builds: dict[Version, _Build]


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """A row and the place that made it, for faults that show only beside other files."""

    row: Row
    place: Place


def parse_matrix(document: Document) -> tuple[Matrix, tuple[Located, ...]]:
    """Read the matrix; faults are noted in the document."""
    root = document.root
    root.number("schema", at_least=1)
    platform = root.text("platform", form=r"linux_\w+", like="linux_x86_64")
    torches = _torches(root)
    exclusions = tuple(_exclusion(table) for table in root.tables("exclusions", needed=False))
    located: list[Located] = []
    for table in root.tables("cells"):
        located += _cells(table, torches, platform)
    root.close()
    located = _drop_repeated(located, document)
    rows = tuple(_wanted(located, exclusions, document))
    matrix = Matrix(rows=tuple(one.row for one in rows), exclusions=exclusions, platform=platform)
    return matrix, rows


def _torches(root: Table) -> dict[Version, _Torch]:
    found: dict[Version, _Torch] = {}
    for table in root.tables("torch"):
        minor = table.version("minor")
        if minor in found and minor != NO_VERSION:
            table.fault("minor", f"torch {version_text(minor)} is here twice")
        found[minor] = _torch(table, minor)
    return found


def _torch(table: Table, minor: Version) -> _Torch:
    release = table.text("release", form=r"\d+\.\d+\.\d+", like="2.4.0")
    if release and not release.startswith(f"{version_text(minor)}."):
        table.fault("release", f"{release} is no release of torch {version_text(minor)}")
    architectures = table.forms("architectures", form=ARCHITECTURE, like="9.0 or 9.0a")
    builds: dict[Version, _Build] = {}
    for one in table.tables("builds"):
        cuda = one.version("cuda")
        if cuda in builds and cuda != NO_VERSION:
            one.fault("cuda", f"{version_text(cuda)} is here twice")
        builds[cuda] = _build(one)
        lacking = _lacking(builds[cuda].architectures, architectures)
        if lacking and table.document.is_sound("torch"):
            one.fault("architectures", f"torch {version_text(minor)} does not know {lacking}")
    table.text("why")
    table.text("source")
    pythons = table.forms("pythons", form=PYTHON, like="cp310")
    table.close()
    return _Torch(release=release, pythons=pythons, architectures=architectures, builds=builds)


def _build(table: Table) -> _Build:
    build = _Build(
        index=table.text("index", form=INDEX, like="https://host/path"),
        policy=table.text("policy", form=POLICY, like="manylinux_2_28"),
        cxx11_abi=table.flag("cxx11_abi"),
        architectures=_architectures(table, "architectures"),
    )
    table.text("why", default="")
    table.close()
    return build


def _architectures(table: Table, key: str) -> Architectures:
    """Torch's text form; PTX is for GPUs to come, so it is of the highest machine code."""
    text = table.text(key)
    if not text:
        return NONE
    try:
        found = Architectures.parse(text)
    except ArchitectureError as error:
        table.fault(key, str(error))
        return NONE
    fault = ptx_fault(found)
    if fault:
        table.fault(key, fault)
    return found


def ptx_fault(architectures: Architectures) -> str | None:
    """Say so where PTX lies below machine code: it is for GPUs newer than all machine code."""
    if not (architectures.ptx and architectures.machine_code):
        return None
    lowest, highest = architectures.ptx[0], architectures.machine_code[-1]
    if _number(lowest) < _number(highest):
        return f"PTX of {lowest} is below the machine code of {highest}; write {highest}+PTX"
    return None


def _number(architecture: str) -> Version:
    major, minor = re.findall(r"\d+", architecture)
    return int(major), int(minor)


def _lacking(architectures: Architectures, known: tuple[str, ...]) -> str:
    asked = {*architectures.machine_code, *architectures.ptx}
    return ", ".join(sorted(asked - set(known)))


def _exclusion(table: Table) -> Exclusion:
    exclusion = Exclusion(
        pythons=table.texts("pythons", default=()),
        torches=table.versions("torches", default=()),
        cudas=table.versions("cudas", default=()),
        why=table.text("why"),
    )
    if not (exclusion.pythons or exclusion.torches or exclusion.cudas):
        table.fault("", "excludes everything: name pythons, torches or cudas")
    table.close()
    return exclusion


def _cells(table: Table, torches: dict[Version, _Torch], platform: str) -> list[Located]:
    minor, cudas = table.version("torch"), table.versions("cudas")
    pythons = table.forms("pythons", form=PYTHON, like="cp310")
    why = table.text("why")
    variants = "variants" in table.keys and table.flag("variants")
    table.close()
    torch = torches.get(minor)
    if torch is None:
        if minor != NO_VERSION:
            table.fault("torch", f"no [[torch]] has the minor {version_text(minor)}")
        return []
    for python in pythons:
        if python not in torch.pythons:
            text = f"torch {torch.release} has no wheel for {python}{near(python, torch.pythons)}"
            table.fault("pythons", text)
    located = []
    for cuda in cudas:
        build = torch.builds.get(cuda)
        if build is None:
            if cuda != NO_VERSION:
                table.fault("cudas", f"torch {torch.release} has no {version_text(cuda)} build")
            continue
        for python in pythons:
            row = Row(
                cell=Cell(python=python, torch=minor, cuda=cuda, platform=platform),
                torch_release=torch.release,
                torch_index=build.index,
                policy=build.policy,
                cxx11_abi=build.cxx11_abi,
                architectures=build.architectures,
                variants=variants,
                why=why,
            )
            located.append(Located(row=row, place=table.place))
    return located


def _drop_repeated(located: list[Located], document: Document) -> list[Located]:
    seen: dict[Cell, Located] = {}
    for one in located:
        if one.row.cell in seen:
            document.fault(one.place, f"{one.row.cell.label} is here twice")
        seen.setdefault(one.row.cell, one)
    return list(seen.values())


def _wanted(
    located: list[Located], exclusions: tuple[Exclusion, ...], document: Document
) -> list[Located]:
    """The rows that nothing excludes; two exclusions of one cell contradict each other's reason."""
    kept = []
    for one in located:
        by = [at for at, exclusion in enumerate(exclusions) if exclusion.covers(one.row.cell)]
        if len(by) > 1:
            text = f"{one.row.cell.label} is excluded by exclusions[{by[0]}] too"
            document.fault(("exclusions", by[1]), text)
        if not by:
            kept.append(one)
    return kept
