"""Torches in likely places, for the one line that says which `--python` to give."""

from __future__ import annotations

import os
from typing import Iterator, List, Mapping, NamedTuple, Tuple

from apex_installer.errors import InstallError
from apex_installer.read.torch_files import read_torch

_ROOTS = ("/workspace", "/runpod-volume", "/opt", "/app", "/root", "/home", "/srv", "/content")
"""Where pods keep apps; their folders and those folders' environments are looked at."""
_ENVIRONMENTS = ("", "venv", ".venv", "env")
_ALONE = ("/venv", "/opt/conda", "/opt/venv", "/usr/local", "/usr", "/root/miniconda3")
_MOST_FOLDERS = 200
"""Listed at most: a network volume answers slowly."""


class Found(NamedTuple):
    """A torch elsewhere."""

    version: str
    root: str
    """The environment's folder, `/workspace/x/venv`."""
    python: str


def find_torches(environ: Mapping[str, str], *, roots: Tuple[str, ...] = _ROOTS) -> List[Found]:
    """Every torch in a likely place, whose interpreter is there too; in order of likelihood."""
    found: List[Found] = []
    for prefix in dict.fromkeys(_prefixes(environ, roots)):
        found += _torches_below(prefix)
    return found


def _prefixes(environ: Mapping[str, str], roots: Tuple[str, ...]) -> Iterator[str]:
    for root in (environ.get("PWD", ""), *roots, environ.get("HOME", "")):
        if not root.startswith("/"):
            continue
        folders = [root, *(os.path.join(root, name) for name in _folders(root))]
        for folder in folders[:_MOST_FOLDERS]:
            for name in _ENVIRONMENTS:
                yield os.path.join(folder, name) if name else folder
    conda = os.path.join("/opt/conda", "envs")
    yield from (os.path.join(conda, name) for name in _folders(conda))
    if roots is _ROOTS:
        yield from _ALONE


def _torches_below(prefix: str) -> Iterator[Found]:
    library = os.path.join(prefix, "lib")
    for name in _folders(library):
        if not name.startswith("python3"):
            continue
        for packages in ("site-packages", "dist-packages"):
            torch = os.path.join(library, name, packages, "torch")
            python = _python_of(prefix, name)
            if python and os.path.isfile(os.path.join(torch, "version.py")):
                try:
                    yield Found(read_torch(torch).version, prefix, python)
                except (InstallError, OSError):
                    continue


def _python_of(prefix: str, name: str) -> str:
    """`<prefix>/bin/python`, or the one of just this minor where a prefix holds several."""
    several = not os.path.isfile(os.path.join(prefix, "pyvenv.cfg"))
    for program in (name, "python3", "python") if several else ("python",):
        path = os.path.join(prefix, "bin", program)
        if os.access(path, os.X_OK):
            return path
    debian = os.path.join("/usr/bin", name)
    return debian if several and os.access(debian, os.X_OK) else ""


def _folders(folder: str) -> List[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
