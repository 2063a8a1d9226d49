"""A file's address on a simple page (PEP 503, PEP 691), by its name alone.

The page is believed for nothing but the address: what it leads to must have the pinned sha256.
"""

from __future__ import annotations

import json
import re
from typing import Any, Optional

from apex_installer.errors import DownloadError
from apex_installer.get.http import Fetcher, NotFoundError
from apex_installer.get.url import Url

MAX_PAGE = 32 << 20
"""Bytes; NVIDIA's longest page is about 100 kB."""
_LINK = re.compile(rb"<a\s[^>]*?href\s*=\s*([\"'])(.*?)\1", re.IGNORECASE | re.DOTALL)


def find_file(index_url: str, project: str, file: str, *, fetcher: Fetcher) -> str:
    """The address of `file` on `<index_url>/<project>/`; DownloadError where it is not there."""
    page = Url.of_folder(index_url).joined(f"{project}/").text
    shown = Url.parse(page).shown
    try:
        content = fetcher.fetch(page, limit=MAX_PAGE)
    except NotFoundError:
        if not page.startswith("file:"):
            raise
        page = f"{page}index.html"
        content = fetcher.fetch(page, limit=MAX_PAGE)
    reference = _in_json(content, file) or _in_html(content, file)
    if reference is None:
        raise DownloadError(f"{shown}: does not list {file}; name another index by --pypi-url")
    return fetcher.join(page, reference)


def _in_json(content: bytes, file: str) -> Optional[str]:
    try:
        data: Any = json.loads(content)
        return next(str(one["url"]) for one in data["files"] if one["filename"] == file)
    except (ValueError, KeyError, TypeError, StopIteration):
        return None


def _in_html(content: bytes, file: str) -> Optional[str]:
    for _, raw in _LINK.findall(content):
        reference = raw.decode("utf-8", "replace").replace("&amp;", "&")
        if _decoded(reference.partition("#")[0].rpartition("/")[2]) == file:
            return str(reference)
    return None


def _decoded(name: str) -> str:
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda match: chr(int(match.group(1), 16)), name)
