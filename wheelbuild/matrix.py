"""The matrix: the cells that are wanted, in order, and those that are not, with reasons. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apex_installer.errors import UsageError as CellError
from apex_installer.model.cell import Cell
from wheelbuild.errors import UsageError

if TYPE_CHECKING:
    from apex_installer.model.arch import Architectures, Version


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
    variants: bool = False
    """Whether each architecture gets a wheel of its own beside the plain one."""

    @property
    def torch(self) -> str:
        """The exact version: `2.4.0+cu121`."""
        return f"{self.torch_release}+{self.cell.cuda_tag}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """Cells that are not built, and why: an empty part stands for all."""

    pythons: tuple[str, ...]
    torches: tuple[Version, ...]
    cudas: tuple[Version, ...]
    why: str

    def covers(self, cell: Cell) -> bool:
        """Whether it is about this cell."""
        return (
            (not self.pythons or cell.python in self.pythons)
            and (not self.torches or cell.torch in self.torches)
            and (not self.cudas or cell.cuda in self.cudas)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """Wanted cells in order, excluded ones with their reasons."""

    rows: tuple[Row, ...]
    exclusions: tuple[Exclusion, ...]
    platform: str = "linux_x86_64"

    def find_rows(self, wanted: str) -> tuple[Row, ...]:
        """Rows of a cell, with or without its platform, or of all cells that begin like this.

        UsageError for a cell that is excluded, with the matrix's reason, and for one it does not
        have, with the nearest.
        """
        labels = (wanted, f"{wanted}-{self.platform}")
        rows = tuple(row for row in self.rows if row.cell.label in labels)
        rows = rows or tuple(row for row in self.rows if _begins(row.cell.label, wanted))
        if not rows:
            raise UsageError(self._refuse(wanted))
        return rows

    def _refuse(self, wanted: str) -> str:
        for label in (wanted, f"{wanted}-{self.platform}"):
            try:
                cell = Cell.parse(label)
            except CellError:
                continue
            for exclusion in self.exclusions:
                if exclusion.covers(cell):
                    return f"{wanted}: excluded by matrix.toml: {exclusion.why}"
        labels = [row.cell.label for row in self.rows]
        found = difflib.get_close_matches(wanted, labels, n=3, cutoff=0.5)
        near = f"; near: {', '.join(found)}" if found else ""
        return f"{wanted}: matrix.toml has no such cell{near}; wheelbuild matrix lists all"


def _begins(label: str, start: str) -> bool:
    """By whole parts: `cp310-torch2.1` is no beginning of `cp310-torch2.11-…`."""
    return f"{label}-".startswith(f"{start.rstrip('-')}-")
