"""Data the farm generated from its TOML: recipe.json, checks.json, toolkits.json.

`defaults.json` is there only in a zipapp that was packed with an index or a repository URL;
`python-only.json`, and the wheels that it names, only in one that carries them.
"""

from __future__ import annotations

import os
from typing import Optional


def read(name: str) -> Optional[str]:
    """Return the text of one data file, also from inside a zipapp; None if there is none."""
    found = read_bytes(name)
    return None if found is None else found.decode("utf-8")


def read_bytes(name: str) -> Optional[bytes]:
    """Return one data file as it is; None if there is none."""
    path = os.path.join(os.path.dirname(__file__), name)
    try:
        found: bytes = __loader__.get_data(path)  # type: ignore[name-defined]  # PEP 302
    except OSError:
        return None
    return found
