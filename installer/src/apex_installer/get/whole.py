"""Small files of the cache, written at once and whole: whoever reads one reads all of it."""

from __future__ import annotations

import os
from contextlib import suppress

PART = ".part."
"""In the names of files that are being written; what a killed run left of them is litter."""


def write_whole(path: str, content: bytes) -> None:
    """Put a file in the place of whatever has its name. OSError passes, and leaves no part."""
    part = _write_beside(path, content)
    try:
        os.replace(part, path)
    except OSError:
        remove(part)
        raise


def write_once(path: str, content: bytes) -> bool:
    """Make a file unless its name is taken; of several writers exactly one is told True.

    OSError passes, and leaves no part.
    """
    part = _write_beside(path, content)
    try:
        os.link(part, path)  # unlike a rename, it never replaces
    except FileExistsError:
        return False
    except OSError:
        # A file system without links. Two writers at the same moment may both be told True; what
        # is there is of one of the two, and whole.
        if os.path.exists(path):
            return False
        os.replace(part, path)
    finally:
        remove(part)
    return True


def remove(path: str) -> None:
    """Remove a file if it is there and can be removed."""
    with suppress(OSError):
        os.unlink(path)


def _write_beside(path: str, content: bytes) -> str:
    """A new file with this content beside `path`, whose folder is made; returns its path."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    part = f"{path}{PART}{os.getpid()}-{os.urandom(4).hex()}"
    try:
        with open(part, "xb") as file:
            file.write(content)
    except OSError:
        remove(part)
        raise
    return part
