"""The plan: the cells that are wanted, less what is published and fresh, as ordered jobs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apex_installer.model.arch import Architectures
    from apex_installer.model.cell import Cell
    from apex_installer.model.entry import Entry
    from wheelbuild.data import FarmData


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One wheel to build: all that the steps need to know, nothing they must look up again."""

    cell: Cell
    distribution: str
    package: str
    torch_release: str
    """What pip is asked for: `2.11.0`."""
    torch: str
    """The exact version it must turn out to be: `2.11.0+cu130`."""
    torch_index: str
    """`https://pypi.org/simple` or torch's own index for this CUDA."""
    git_url: str
    ref: str
    """Full commit hash."""
    ref_name: str
    """The tag, for people: `25.04`."""
    version: str
    """`0.1+20250411.cu121.torch2.4`, with the suffix."""
    build_tag: int
    """PEP 427; 0 means none."""
    suffix: str
    """`norm.sm90` for less than the default set or the cell's architectures, else empty."""
    modules: tuple[str, ...]
    """Import names, sorted."""
    architectures: Architectures
    policy: str
    """manylinux policy of torch's own wheel: `manylinux_2_28`."""
    cxx11_abi: bool
    requires: tuple[str, ...]
    """Requires-Dist, torch's pin first."""
    argv: tuple[str, ...]
    """Options for the ref's setup.py, before the command."""
    environment: Mapping[str, str]
    """Variables for the ref's setup.py."""
    cpu_seconds: float
    """Estimate for the modules, one architecture."""
    recipe_digest: str
    """sha256 over what this cell's build reads of the data."""
    why: str
    """The matrix's reason for the cell."""


def plan(
    data: FarmData,
    entries: Iterable[Entry] = (),
    *,
    cells: Iterable[str] = (),
    only: Iterable[str] = (),
    arch: str | None = None,
    force: bool = False,
) -> tuple[Job, ...]:
    """Return the jobs in the matrix's order; UsageError for a cell that is excluded or unknown.

    `entries`: the index's. `cells`: labels or prefixes of labels, all when empty. `only`: modules,
    groups or classes. `arch`: torch's form, `9.0` or `8.0;9.0+PTX`.
    """
    raise NotImplementedError
