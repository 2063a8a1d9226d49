"""The recipe: how a package is built. Values, and the questions they answer; pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from apex_installer.model.arch import Version
    from apex_installer.model.recipe import Requirement
    from wheelbuild.toolkits import Toolkit


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
    flags: tuple[str, ...]
    """How the ref's setup.py takes its flags: `argv`, `environment` or both."""
    cxx_standard: str
    """`c++17`; torch's builder decides, this is what the sources need at least."""
    python_min: Version
    """Oldest Python that runs the ref's setup.py and imports the package."""
    requirements: tuple[Requirement, ...]

    def serves(self, torch: Version) -> bool:
        """Whether this torch minor is in its range."""
        return self.torch_min <= torch and (self.torch_max is None or torch <= self.torch_max)


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """One extension module and how to ask for it."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    refs: tuple[str, ...]
    """Names of the refs that have it; empty: all."""
    cuda_min: Version | None
    needs: tuple[str, ...]
    """What a build needs beside torch and the toolkit: `cudnn`, `nccl`, `submodules`."""
    cpu_seconds: float
    """User and system, for one architecture."""
    test: str
    """Path of its test below the recipe's folder."""
    standin: str
    """Path of what stands for it in the Python-only wheel; empty where nothing does."""
    standin_lacks: tuple[str, ...]
    """Names of `provides` that need what the stand-in does not hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provided:
    """Classes and functions, as people name them, and the modules without which they fail."""

    names: tuple[str, ...]
    modules: tuple[str, ...]
    refs: tuple[str, ...]
    """Names of the refs whose package has them; empty: all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a package is built, tested and asked for."""

    distribution: str
    package: str
    base_version: str
    git_url: str
    """Empty where `source` is given."""
    source: Path | None
    """A folder beside the recipe in place of the git URL."""
    refs: tuple[Ref, ...]
    modules: Mapping[str, Module]
    groups: Mapping[str, tuple[str, ...]]
    default: str
    """Group that a plain wheel holds."""
    required_by_default: str
    """Group that must be there when nothing is said."""
    provided: tuple[Provided, ...]
    directory: Path

    @property
    def provides(self) -> Mapping[str, tuple[str, ...]]:
        """Class or function -> modules it needs, in the recipe's order."""
        return {name: one.modules for one in self.provided for name in one.names}

    def find_ref(self, torch: Version) -> Ref | None:
        """Return the ref that serves this torch minor; the ranges do not overlap."""
        return next((ref for ref in self.refs if ref.serves(torch)), None)

    def list_modules(self, ref: Ref, cuda: Version) -> frozenset[str]:
        """Every module that this ref makes with this CUDA."""
        return frozenset(
            module.name
            for module in self.modules.values()
            if (not module.refs or ref.name in module.refs)
            and (module.cuda_min is None or module.cuda_min <= cuda)
        )

    def list_default(self, ref: Ref, cuda: Version) -> tuple[str, ...]:
        """Modules of a plain wheel, sorted."""
        return tuple(sorted(self.list_modules(ref, cuda) & set(self.groups[self.default])))

    def list_flags(
        self, ref: Ref, modules: Iterable[str]
    ) -> tuple[tuple[str, ...], Mapping[str, str]]:
        """Options and variables for the ref's setup.py; options where it takes both.

        Flags ask for more than one module each: what is not wanted is filtered after the capture.
        """
        chosen = [self.modules[name] for name in modules]
        if "argv" in ref.flags:
            return tuple(sorted({flag for module in chosen for flag in module.argv})), {}
        pairs = {pair for module in chosen for pair in module.environment.items()}
        return (), dict(sorted(pairs))


def recipe_digest(
    recipe: Recipe, *, ref: Ref, modules: tuple[str, ...], toolkit: Toolkit | None
) -> str:
    """sha256 over what one cell's build reads of the data: and over nothing else.

    So a comment, a reason, a measured figure, a test, another torch's row, another ref or a module
    that is not built leave it as it is.
    """
    argv, environment = recipe.list_flags(ref, modules)
    read = {
        "distribution": recipe.distribution,
        "package": recipe.package,
        "base_version": recipe.base_version,
        "commit": ref.commit,
        "date": ref.date,
        "cxx_standard": ref.cxx_standard,
        "requirements": [requirement.specifier for requirement in ref.requirements],
        "modules": sorted(modules),
        "argv": argv,
        "environment": environment,
        "toolkit": toolkit
        and {
            "release": toolkit.release,
            "parts": sorted((part.name, part.sha256) for part in toolkit.parts),
        },
    }
    text = json.dumps(read, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
