"""Where each CUDA's compiler comes from, pinned, and what it can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apex_installer.model.arch import Version


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One archive or wheel of a toolkit."""

    name: str
    version: str
    file: str
    """Path below the base URL (archives), or the wheel's file name."""
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolkit:
    """One CUDA release."""

    cuda: Version
    release: str
    """`12.1.1`."""
    how: str
    """`archives` (NVIDIA's redistributables) or `wheels` (PyPI)."""
    base_url: str
    parts: tuple[Part, ...]
    gcc_max: int
    clang_max: int
    architectures: tuple[str, ...]
    """What its nvcc makes code for."""
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolkits:
    """By CUDA minor."""

    toolkits: Mapping[Version, Toolkit]
