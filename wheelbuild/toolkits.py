"""Where each CUDA's compiler comes from, pinned, and what it can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apex_installer.model.arch import Version, version_text
from wheelbuild.document import NO_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelbuild.document import Document, Table

HOW = ("archives", "wheels")
SHA256 = r"[0-9a-f]{64}"
ARCHITECTURE = r"\d+\.\d[af]?"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One archive or wheel of a toolkit."""

    name: str
    version: str
    file: str
    """Path below the base URL (archives), or the wheel's file name."""
    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Headers(Part):
    """A wheel of which only the headers are taken."""

    holds: str
    """The header whose absence elsewhere makes them needed."""
    record_sha256: str
    """Of RECORD inside the wheel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequirement(Part):
    """A wheel of pure Python that setup.py imports."""

    module: str
    """Import name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Apt:
    """NVIDIA's repositories for apt, and the key that signs them."""

    base_url: str
    key: str
    fingerprint: str
    repositories: Mapping[str, tuple[str, ...]]
    """`debian12` -> CUDA minors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolkit:
    """One CUDA release."""

    cuda: Version
    release: str
    """`12.1.1`."""
    how: str
    """`archives` (NVIDIA's redistributables) or `wheels` (PyPI)."""
    base_url: str
    parts: tuple[Part, ...]
    headers: tuple[Headers, ...]
    gcc_max: int
    """Newest major version of gcc that its headers accept."""
    clang_max: int
    architectures: tuple[str, ...]
    """What its nvcc makes code for."""
    source: str

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolkits:
    """By CUDA minor."""

    toolkits: Mapping[Version, Toolkit]
    build_requirements: tuple[BuildRequirement, ...]
    apt: Apt | None

    def get(self, cuda: Version) -> Toolkit | None:
        """Return the toolkit of this CUDA minor, or None if none is pinned."""
        return self.toolkits.get(cuda)


def parse_toolkits(document: Document) -> Toolkits:
    """Read `toolkits.toml`; faults are noted in the document."""
    root = document.root
    root.number("schema", at_least=1)
    found: dict[Version, Toolkit] = {}
    for table in root.tables("toolkits"):
        toolkit = _toolkit(table)
        if toolkit.cuda in found and toolkit.cuda != NO_VERSION:
            table.fault("cuda", f"{version_text(toolkit.cuda)} is here twice")
        found[toolkit.cuda] = toolkit
    requirements = tuple(
        BuildRequirement(module=table.text("module"), **_part_fields(table))
        for table in root.tables("build_requirements", needed=False)
    )
    apts = [_apt(table) for table in root.tables("apt", needed=False)]
    root.close()
    apt = apts[0] if apts else None
    return Toolkits(toolkits=found, build_requirements=requirements, apt=apt)


def _toolkit(table: Table) -> Toolkit:
    toolkit = Toolkit(
        cuda=table.version("cuda"),
        release=table.text("release", form=r"\d+\.\d+\.\d+", like="12.1.1"),
        how=table.choice("how", HOW),
        base_url=table.text("base_url", form=r"(https|file)://.+/", like="https://host/path/"),
        parts=tuple(Part(**_part_fields(part)) for part in table.tables("parts")),
        headers=tuple(_headers(part) for part in table.tables("headers", needed=False)),
        gcc_max=table.number("gcc_max", at_least=1),
        clang_max=table.number("clang_max", at_least=1),
        architectures=table.forms("architectures", form=ARCHITECTURE, like="9.0 or 9.0a"),
        source=table.text("source"),
    )
    if toolkit.release and not toolkit.release.startswith(f"{version_text(toolkit.cuda)}."):
        table.fault("release", f"{toolkit.release} is no release of {version_text(toolkit.cuda)}")
    table.close()
    return toolkit


def _headers(table: Table) -> Headers:
    return Headers(
        holds=table.text("holds"),
        record_sha256=table.text("record_sha256", form=SHA256, like="64 hex digits"),
        **_part_fields(table),
    )


def _part_fields(table: Table) -> dict[str, Any]:
    """What every part states; its own fields are read before, since this closes the table."""
    fields: dict[str, Any] = {
        "name": table.text("name"),
        "version": table.text("version"),
        "file": table.text("file", form=r"[^/\s][^\s]*\.(tar\.xz|whl)", like="x.tar.xz or x.whl"),
        "sha256": table.text("sha256", form=SHA256, like="64 hex digits"),
        "size": table.number("size", at_least=1),
    }
    table.close()
    return fields


def _apt(table: Table) -> Apt:
    repositories = {}
    for row in table.tables("repositories"):
        repositories[row.text("name")] = row.forms("cuda", form=r"\d+\.\d+", like="12.1")
        row.close()
    apt = Apt(
        base_url=table.text("base_url", form=r"(https|file)://.+/", like="https://host/path/"),
        key=table.text("key"),
        fingerprint=table.text("fingerprint", form=r"[0-9A-F]{40}", like="40 hex digits"),
        repositories=repositories,
    )
    table.close()
    return apt
