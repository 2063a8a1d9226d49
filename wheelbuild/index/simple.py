"""The simple API, HTML (PEP 503) and JSON (PEP 691), version 1.1 (PEP 700).

Metadata sidecars are announced under both their names (PEP 658, 714); yanks as PEP 592 says.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from wheelbuild.index.html import fill_template
from wheelbuild.index.paths import FILES, file_url, rebase
from wheelbuild.variants import index_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apex_installer.model.entry import Entry
    from wheelbuild.index.listing import Listing
    from wheelbuild.variants import IndexFile

API_VERSION = "1.1"


def simple_pages(listing: Listing) -> dict[str, bytes]:
    """Path -> bytes: the projects' pages first, the page that leads to them last."""
    root = f"{listing.path}/simple"
    pages: dict[str, bytes] = {}
    for name, entries in listing.projects.items():
        folder = f"{root}/{name}"
        described = index_files(name, entries)
        pages.update({_place(one): one.content for one in described})
        files = [_file(entry, folder=folder) for entry in entries]
        files += [_description(one, folder=folder) for one in described]
        pages[f"{folder}/index.html"] = fill_template(
            "project.html", name=name, files=files, api_version=API_VERSION
        )
        pages[f"{folder}/index.json"] = _json(_project(name, entries, files))
    names = list(listing.projects)
    pages[f"{root}/index.html"] = fill_template(
        "projects.html", names=names, api_version=API_VERSION
    )
    projects = {"meta": {"api-version": API_VERSION}, "projects": [{"name": n} for n in names]}
    pages[f"{root}/index.json"] = _json(projects)
    return pages


def _project(name: str, entries: Iterable[Entry], files: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "meta": {"api-version": API_VERSION},
        "name": name,
        "versions": sorted({entry.version for entry in entries}, key=Version),
        "files": files,
    }


def _file(entry: Entry, *, folder: str) -> dict[str, Any]:
    """One `files` member of PEP 691; the HTML page is filled from the same values."""
    sidecar = {"sha256": entry.metadata_sha256}
    return {
        "filename": entry.file,
        "url": rebase(entry.url, start="", to=folder),
        "hashes": {"sha256": entry.sha256},
        "size": entry.size,
        "upload-time": entry.uploaded,
        "core-metadata": sidecar,
        "dist-info-metadata": sidecar,
        # An empty reason is still a yank.
        "yanked": False if entry.yanked is None else entry.yanked or True,
    }


def _place(file: IndexFile) -> str:
    """By content, and kept: a page that a client cached names what was there when it was made."""
    return f"{FILES}/{file.sha256}/{file.name}"


def _description(file: IndexFile, *, folder: str) -> dict[str, Any]:
    """It has no metadata of its own, and is not yanked."""
    return {
        "filename": file.name,
        "url": rebase(file_url(file.name, sha256=file.sha256), start="", to=folder),
        "hashes": {"sha256": file.sha256},
        "size": len(file.content),
        "upload-time": file.uploaded,
    }


def _json(page: dict[str, Any]) -> bytes:
    return (json.dumps(page, indent=1, ensure_ascii=True) + "\n").encode()
