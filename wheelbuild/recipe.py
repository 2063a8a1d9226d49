"""The recipe: how a package is built. Values and the questions they answer; `read` is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from apex_installer.model.arch import Version
    from apex_installer.model.recipe import Requirement


@dataclass(frozen=True, kw_only=True, slots=True)
class Ref:
    """One pinned commit of the source and the torches it serves."""

    commit: str
    """Full hash."""
    name: str
    """The tag, for people."""
    date: str
    """UTC day of the commit, `20250411`."""
    torch_min: Version
    torch_max: Version | None
    """Last minor served; None: every newer one."""
    why: str
    flags: str
    """How the ref's setup.py takes its flags: `argv` or `environment`."""
    cxx_standard: str
    """`c++17`; torch's builder decides, this is what the sources need at least."""
    requirements: tuple[Requirement, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """One extension module and how to ask for it."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    refs: tuple[str, ...]
    """Names of the refs that have it; empty: all."""
    cuda_min: Version | None
    cpu_seconds: float
    test: str
    """Path of its test below the recipe's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a package is built, tested and asked for."""

    distribution: str
    package: str
    base_version: str
    git_url: str
    source: Path | None
    """A folder beside the recipe in place of the git URL."""
    refs: tuple[Ref, ...]
    modules: Mapping[str, Module]
    groups: Mapping[str, tuple[str, ...]]
    default: str
    """Group that a plain wheel holds."""
    required_by_default: str
    """Group that must be there when nothing is said."""
    provides: Mapping[str, tuple[str, ...]]
    """Class or function -> modules it needs."""
    directory: Path
