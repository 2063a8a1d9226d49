"""The matrix: the cells that are wanted, in order, and what is known of each torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apex_installer.model.arch import Architectures, Version
    from apex_installer.model.cell import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One wanted cell with everything that follows from its torch and CUDA."""

    cell: Cell
    torch_release: str
    torch_index: str
    policy: str
    cxx11_abi: bool
    architectures: Architectures
    why: str

    @property
    def torch(self) -> str:
        """The exact version: `2.4.0+cu121`."""
        return f"{self.torch_release}+{self.cell.cuda_tag}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """Cells that are not built, and why: a part that is None stands for all."""

    python: str | None
    torch: Version | None
    cuda: Version | None
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """Wanted cells in order, excluded ones with their reasons."""

    rows: tuple[Row, ...]
    exclusions: tuple[Exclusion, ...]
