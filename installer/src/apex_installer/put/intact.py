"""Whether an install is what its RECORD says: every file hashed, both ways."""

from __future__ import annotations

import os
from typing import Iterable, List, Tuple

from apex_installer.put.installed import Installed
from apex_installer.put.record import Row, digest_text

SHOWN = 3
"""Names that one line mentions before it counts the rest."""


def record_faults(installed: Installed) -> Tuple[str, ...]:
    """RECORD against the files, both ways, everything hashed; one line per kind of fault.

    Bytecode and the receipt of this program are not in question; neither are files outside the
    package's own folders.
    """
    if not installed.has_record:
        return ("has no RECORD",)
    missing, changed = [], []
    for row in installed.rows:
        path = os.path.join(installed.directory, row.path)
        if not os.path.lexists(path):
            missing.append(row.path)
        elif row.digest and not is_unchanged(path, row):
            changed.append(row.path)
    return (
        *_line("files are missing", missing),
        *_line("files were changed", changed),
        *_line("files that RECORD does not know", extra_files(installed)),
    )


def is_unchanged(path: str, row: Row) -> bool:
    """The file's sha256 is that of its row."""
    import hashlib  # noqa: PLC0415 - `already` needs it only where an mtime differs

    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
    except OSError:
        return False
    return digest_text(digest.digest()) == row.digest


def extra_files(installed: Installed) -> Tuple[str, ...]:
    """Files in its package and dist-info that RECORD does not list, bytecode aside."""
    known = {row.path for row in installed.rows}
    folders = [installed.package, os.path.basename(installed.dist_info)]
    return tuple(
        path
        for folder in folders
        if folder and os.path.isdir(os.path.join(installed.directory, folder))
        for path in _files_below(installed.directory, folder)
        if path not in known
    )


def _files_below(root: str, folder: str) -> Iterable[str]:
    for parent, folders, files in os.walk(os.path.join(root, folder)):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        folders[:] = [name for name in folders if name != "__pycache__" and name not in links]
        for name in sorted([*files, *links]):
            if not name.endswith(".pyc"):
                yield os.path.relpath(os.path.join(parent, name), root)


def _line(text: str, paths: Iterable[str]) -> List[str]:
    names = sorted(paths)
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{text}: {', '.join(names[:SHOWN])}{more}"]
