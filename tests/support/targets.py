"""Targets with something in them already: foreign packages of our package's name."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOREIGN_VERSION = "0.9.10.dev0"
FOREIGN_FILES = {
    "apex/__init__.py": "# an unrelated toolkit\nname = 'pyramid'\n",
    "apex/models.py": "class Model: ...\n",
    "apex/templates/page.txt": "hello\n",
    "apex_extra.py": "value = 1\n",
}


def add_foreign(
    target: Path,
    *,
    installer: str | None = "pip",
    version: str = FOREIGN_VERSION,
    files: Mapping[str, str] | None = None,
    record: bool = True,
) -> dict[str, str]:
    """Install a package named apex as pip would; returns what was written, by path."""
    dist_info = f"apex-{version}.dist-info"
    written = dict(FOREIGN_FILES if files is None else files)
    written[f"{dist_info}/METADATA"] = f"Metadata-Version: 2.1\nName: apex\nVersion: {version}\n"
    if installer:
        written[f"{dist_info}/INSTALLER"] = f"{installer}\n"
    if record:
        rows = [f"{path},{_digest(text)},{len(text)}" for path, text in written.items()]
        rows += ["apex/__pycache__/models.cpython-311.pyc,,", "../../../bin/apex,,"]
        written[f"{dist_info}/RECORD"] = "\n".join([*rows, f"{dist_info}/RECORD,,", ""])
    for path, text in written.items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return written


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def tree(root: Path) -> dict[str, str]:
    """Every file below a folder with the digest of its bytes: equal trees are equal states."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
