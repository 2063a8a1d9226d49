"""The CUDA libraries that `import torch` opens by file; afterwards they are there by name."""

from __future__ import annotations

import os
import re
from typing import Dict, Optional, Sequence

_LISTED = re.compile(r'\(\s*"(\w+)",\s*"(lib[\w-]+)\.so\.\*\[0-9\]"')
"""As torch's own `__init__.py` lists them, folder and file pattern; releases differ."""
_SHARED_FOLDER = re.compile(r"cu\d+")
"""NVIDIA's wheels for CUDA 13 and newer share one folder."""


class Preloads:
    """File name -> path, looked up at the first question: torch's rpaths nearly always suffice."""

    def __init__(self, directory: str, path: Sequence[str]) -> None:
        """Of the torch in `directory`, for an interpreter with this `sys.path`."""
        self._directory = directory
        self._path = path
        self._found: Optional[Dict[str, str]] = None

    def find(self, soname: str) -> Optional[str]:
        """The path of the file that goes by this name, if torch opens it."""
        if not soname.startswith(("libcu", "libnv", "libnccl")):
            return None
        if self._found is None:
            self._found = find_preloads(self._directory, self._path)
        return self._found.get(soname)


def find_preloads(directory: str, path: Sequence[str]) -> Dict[str, str]:
    """File name -> path of every library that this torch opens by file."""
    try:
        with open(os.path.join(directory, "__init__.py"), encoding="utf-8") as file:
            wanted = _LISTED.findall(file.read())
    except (OSError, UnicodeDecodeError):
        return {}
    folders, stems = {folder for folder, _ in wanted}, {stem for _, stem in wanted}
    found: Dict[str, str] = {}
    for entry in path:
        nvidia = os.path.join(entry, "nvidia")
        for folder in _list(nvidia):
            if folder in folders or _SHARED_FOLDER.fullmatch(folder):
                libraries = os.path.join(nvidia, folder, "lib")
                for name in _list(libraries):
                    if name.partition(".so.")[0] in stems:
                        found.setdefault(name, os.path.join(libraries, name))
    return found


def _list(folder: str) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return ()
