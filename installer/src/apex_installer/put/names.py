"""Names of distributions."""

from __future__ import annotations

import re


def normalized(name: str) -> str:
    """One spelling for all that mean the same (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
