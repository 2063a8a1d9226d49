"""The small package's data folder is a good one, and its commit names its very source."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from support.machine import SMALL
from wheelbuild.data import load_data


def git_tree(folder: Path) -> bytes:
    """The hash that git gives to a folder (gitformat: tree objects, sorted by name)."""
    lines = []
    for path in folder.iterdir():
        if path.name == "__pycache__":
            continue
        content = path.read_bytes() if path.is_file() else b""
        executable = path.stat().st_mode & stat.S_IXUSR
        mode = b"40000" if path.is_dir() else b"100755" if executable else b"100644"
        digest = git_tree(path) if path.is_dir() else _object(b"blob", content)
        order = path.name + ("/" if path.is_dir() else "")
        lines.append((order, mode + b" " + path.name.encode() + b"\0" + digest))
    return _object(b"tree", b"".join(line for _, line in sorted(lines)))


def _object(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(kind + b" %d\0" % len(content) + content).digest()  # noqa: S324 - git's


def test_its_data_are_sound() -> None:
    data = load_data(SMALL)
    assert data.recipe.required_by_default == "norm"
    assert {row.torch for row in data.matrix.rows} == {"2.11.0+cu130", "2.6.0+cu124"}


def test_the_newest_ref_is_the_source_as_it_is() -> None:
    recipe = load_data(SMALL).recipe
    assert recipe.source is not None
    assert recipe.refs[-1].commit == git_tree(recipe.source).hex()
