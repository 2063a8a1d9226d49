"""Where things lie in an index, and how one place is named from another. All URLs are relative.

files/<sha256>/<wheel>             and <wheel>.metadata beside it
files/<sha256>/<name>-<version>-variants.json    what that version's variants are (PEP 825)
entries/<sha256>.json              what the pages are rendered from
<index path>/simple/…              `cu121/torch2.4`, `cu121/torch2.4/norm.sm90`, `python`
<index path>/install-cp310.json    the installer's document
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from packaging.utils import canonicalize_name

from apex_installer.model.entry import Document
from wheelbuild.wheelfile import WheelName

if TYPE_CHECKING:
    from apex_installer.model.entry import Entry

FILES = "files"
ENTRIES = "entries"
COVERAGE = "coverage.html"
PYTHON_ONLY = "python"
"""Cell and index path of the wheels that hold no module."""

PAGE = re.compile(
    r"(cu\d+/torch\d+\.\d+|python)(/[a-z0-9_.-]+)*/(index\.(html|json)|install-\w+\.json)"
)
"""A path that only a rendered page has, so that a stale one can be told from a stranger's file."""


def index_path(entry: Entry) -> str:
    """`cu121/torch2.4`, `cu121/torch2.4/norm.sm90` or `python`: where pip and uv meet the wheel."""
    cell = entry.the_cell
    if cell is None:
        return PYTHON_ONLY
    return f"{cell.index_path}/{entry.suffix}" if entry.suffix else cell.index_path


def document_path(entry: Entry) -> str:
    """`cu121/torch2.4/install-cp310.json`: one document lists a cell's suffixed wheels too."""
    cell = entry.the_cell
    if cell is None:
        return f"{PYTHON_ONLY}/{Document.name_for(python_tag(entry))}"
    return f"{cell.index_path}/{Document.name_for(cell.python)}"


def python_tag(entry: Entry) -> str:
    """`cp310`; `py3` for a wheel that holds no module."""
    cell = entry.the_cell
    return cell.python if cell else WheelName.parse(entry.file).python


def project_name(entry: Entry) -> str:
    """The distribution's name as simple pages spell it (PEP 503)."""
    return canonicalize_name(entry.distribution)


def file_url(file: str, *, sha256: str) -> str:
    """The wheel's address below the root. `+` becomes `%2B`: some servers read it as a blank."""
    return f"{FILES}/{sha256}/{quote(file, safe='')}"


def rebase(url: str, *, start: str, to: str) -> str:
    """Rewrite a URL relative to the folder `start` as one relative to `to`; absolute ones stay."""
    if urlsplit(url).scheme:
        return url
    return posixpath.relpath(posixpath.join("/", start, url), posixpath.join("/", to))
