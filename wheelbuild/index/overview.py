"""The page for people at the root: which wheels there are, how they were tested, how to get one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apex_installer.pick import entry_architectures
from wheelbuild.index.html import fill_template
from wheelbuild.index.listing import newest_version
from wheelbuild.index.paths import COVERAGE, python_tag, rebase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apex_installer.model.entry import Entry
    from wheelbuild.index.listing import Listing

UNTESTED = "untested on a GPU"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One wheel, in words."""

    python: str
    torch: str
    version: str
    build_tag: int
    architectures: str
    modules: tuple[str, ...]
    megabytes: str
    evidence: str
    uploaded: str
    yanked: str | None
    file: str
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One distribution at its newest version: what the pip line and the uv snippet name."""

    name: str
    version: str

    @property
    def requirement(self) -> str:
        """`apex==0.1+20250411.cu121.torch2.4`: the local part exists in no other index."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One index path: its commands and its wheels, the newest first."""

    path: str
    pins: tuple[Pin, ...]
    rows: tuple[Row, ...]

    @property
    def anchor(self) -> str:
        """`cu121-torch2.4`."""
        return self.path.replace("/", "-")


def overview_page(listings: Iterable[Listing], *, covered: bool) -> bytes:
    """Bytes of `index.html`. The index's own address is filled in by the reader's browser.

    `covered`: whether it leads to the page of coverage.
    """
    return fill_template(
        "overview.html",
        sections=[_section(listing) for listing in listings],
        coverage=COVERAGE if covered else "",
    )


def gpu_evidence(entry: Entry) -> str:
    """`NVIDIA H200, driver 570.1`, or that no GPU has run it.

    What a pod reported says so, and of how many modules: `… (self-reported, 1 of 12 modules)`.
    """
    gpu = entry.tests.get("gpu")
    if not gpu or gpu == "untested":
        return UNTESTED
    driver = entry.tests.get("driver")
    text = f"{gpu}, driver {driver}" if driver else str(gpu)
    if source := entry.tests.get("source"):
        ran, held = len(entry.tests.get("modules", ())), len(entry.modules)
        text += f" ({source}, {ran} of {held} modules)"
    return text


def _section(listing: Listing) -> Section:
    newest = {name: newest_version(entries) for name, entries in listing.projects.items()}
    return Section(
        path=listing.path,
        pins=tuple(Pin(name=name, version=found) for name, found in newest.items() if found),
        rows=tuple(_row(entry) for entry in reversed(listing.entries)),
    )


def _architectures(entry: Entry) -> str:
    """`8.0 9.0+PTX`; `9.0 alone` of a variant."""
    text = entry_architectures(entry).replace(";", " ") or "none"
    return f"{text} alone" if entry.variant else text


def _row(entry: Entry) -> Row:
    return Row(
        python=python_tag(entry),
        torch=entry.torch,
        version=entry.version,
        build_tag=entry.build_tag,
        architectures=_architectures(entry),
        modules=entry.module_names,
        megabytes=f"{entry.size / 1e6:.1f}",
        evidence=gpu_evidence(entry),
        uploaded=entry.uploaded[:10],
        yanked=entry.yanked,
        file=entry.file,
        url=rebase(entry.url, start="", to=""),
    )
