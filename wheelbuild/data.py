"""The farm's data as one value: recipe, matrix, toolkits, read from one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wheelbuild.matrix import Matrix
    from wheelbuild.recipe import Recipe
    from wheelbuild.toolkits import Toolkits


@dataclass(frozen=True, kw_only=True, slots=True)
class FarmData:
    """What `--data DIR` replaces as a whole."""

    recipe: Recipe
    matrix: Matrix
    toolkits: Toolkits
    directory: Path


def load_data(directory: Path | None = None) -> FarmData:
    """Read `matrix.toml`, `toolkits.toml` and `recipes/<name>/recipe.toml` of a folder.

    Without a folder: the package's own. DataError lists every fault, with file, line and key.
    """
    raise NotImplementedError
