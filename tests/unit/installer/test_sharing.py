"""Whether a target is surely this pod's own: what counts is where it is mounted, and as what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.read import sharing
from apex_installer.read.sharing import why_shared

if TYPE_CHECKING:
    from collections.abc import Mapping


def mounted(monkeypatch: pytest.MonkeyPatch, mounts: Mapping[str, str]) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) in mounts)
    monkeypatch.setattr(sharing, "file_system", lambda path: mounts.get(path, ""))


@pytest.mark.parametrize(
    ("mounts", "shared"),
    [
        ({"/": "overlay"}, ""),
        ({"/": "ext4"}, ""),
        ({"/": "overlay", "/venv": "tmpfs"}, ""),
        ({"/": "overlay", "/venv": "nfs4"}, "others may share /venv/lib (/venv is nfs4)"),
        ({"/": "overlay", "/venv": "ext4"}, "others may share /venv/lib (/venv is ext4)"),
        ({"/": "nfs"}, "others may share /venv/lib (/ is nfs)"),
        ({"/": "fuse.juicefs"}, "others may share /venv/lib (/ is fuse.juicefs)"),
        ({"/": ""}, "others may share /venv/lib (/ is of unknown kind)"),
    ],
)
def test_a_volume_counts_as_shared(
    monkeypatch: pytest.MonkeyPatch, mounts: Mapping[str, str], shared: str
) -> None:
    mounted(monkeypatch, mounts)
    assert why_shared("/venv/lib") == shared


def test_a_link_is_where_it_leads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    volume, link = tmp_path / "volume", tmp_path / "venv"
    volume.mkdir()
    link.symlink_to(volume)
    mounted(monkeypatch, {"/": "overlay", str(volume): "nfs4"})
    assert why_shared(str(link)) == f"others may share {link} ({volume} is nfs4)"
    assert not why_shared(str(tmp_path))
