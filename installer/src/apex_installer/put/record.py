"""RECORD, the list of files of a wheel or an install (PEP 376, 427): text to rows, and back.

Values of `put` and `get` are named tuples: a frozen dataclass costs 1 ms more at every start.
"""

from __future__ import annotations

import re
from typing import Iterable, List, NamedTuple, Optional, Tuple

_ROW = re.compile(r"^([^\",]+),([^\",]*),(\d*)$")
DIGEST_PREFIX = "sha256="


class Row(NamedTuple):
    """One file."""

    path: str
    """Relative to the directory that holds the dist-info, with `/`; scripts begin with `../`."""
    digest: str
    """`sha256=<urlsafe base64 without padding>`, or empty."""
    size: Optional[int]
    """Bytes, or None."""


def parse_record(text: str) -> Tuple[Row, ...]:
    """Read RECORD; ValueError names the first line that is not a row."""
    rows: List[Row] = []
    for line in text.splitlines():
        if not line:
            continue
        match = _ROW.match(line)
        path, digest, size = match.groups() if match else _parse_quoted(line)
        rows.append(Row(path, digest, int(size) if size else None))
    return tuple(rows)


def _parse_quoted(line: str) -> Tuple[str, str, str]:
    import csv  # noqa: PLC0415 - 8 ms for names with a comma or a quote, which are rare

    try:
        path, digest, size = next(csv.reader([line], strict=True))
    except (csv.Error, ValueError, StopIteration):
        raise ValueError(f"{line[:80]!r} is not a row of RECORD") from None
    if not path or (size and not size.isdigit()):
        raise ValueError(f"{line[:80]!r} is not a row of RECORD")
    return path, digest, size


def format_record(rows: Iterable[Row]) -> str:
    """The inverse of `parse_record`."""
    return "".join(
        f"{_quoted(row.path)},{row.digest},{'' if row.size is None else row.size}\n" for row in rows
    )


def _quoted(path: str) -> str:
    if '"' in path or "," in path:
        return '"' + path.replace('"', '""') + '"'
    return path


def digest_text(digest: bytes) -> str:
    """The 32 bytes of a sha256 as RECORD writes them."""
    import base64  # noqa: PLC0415 - not needed to read

    return DIGEST_PREFIX + base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
