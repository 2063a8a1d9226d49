"""The farm's data as one value: recipe, matrix, toolkits, read from one folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from apex_installer.model.arch import version_text
from wheelbuild.document import Document, raise_faults, read_document
from wheelbuild.errors import DataError
from wheelbuild.matrix import Matrix
from wheelbuild.matrix_toml import parse_matrix
from wheelbuild.recipe import Recipe
from wheelbuild.recipe_toml import parse_recipe
from wheelbuild.toolkits import Toolkits, parse_toolkits

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelbuild.matrix import Row

Parsed = TypeVar("Parsed")
OURS = Path(__file__).parent
"""The package's own data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FarmData:
    """What `--data DIR` replaces as a whole."""

    recipe: Recipe
    matrix: Matrix
    toolkits: Toolkits
    directory: Path

    @property
    def is_ours(self) -> bool:
        """Whether it is the package's own."""
        return self.directory == OURS


def load_data(directory: Path | None = None) -> FarmData:
    """Read `matrix.toml`, `toolkits.toml` and `recipes/<name>/recipe.toml` of a folder.

    Without a folder: the package's own. DataError lists every fault of all three, one line each,
    with file, line and key.
    """
    folder = (directory or OURS).absolute()
    path = find_recipe(folder)
    names = (path.relative_to(folder).as_posix(), "matrix.toml", "toolkits.toml")
    read = [_read(folder, name) for name in names]
    documents = [one for one in read if isinstance(one, Document)]
    recipe = _parse(read[0], partial(parse_recipe, directory=path.parent))
    matrix = _parse(read[1], parse_matrix)
    toolkits = _parse(read[2], parse_toolkits)
    if recipe and matrix and toolkits and not any(one.faults for one in documents):
        for located in matrix[1]:
            for key, text in list_contradictions(located.row, recipe, toolkits):
                documents[1].fault((*located.place, key), text)
    broken = [str(one) for one in read if isinstance(one, DataError)]
    raise_faults(documents, broken)
    if not (recipe and matrix and toolkits):
        raise AssertionError("a file that was not read, and no fault")  # for the types' sake
    return FarmData(recipe=recipe, matrix=matrix[0], toolkits=toolkits, directory=folder)


def find_recipe(folder: Path) -> Path:
    """Return the one recipe of a data folder; DataError where there is none or more than one."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --data names one with matrix.toml and so on")
    found = sorted(folder.glob("recipes/*/recipe.toml"))
    if len(found) != 1:
        names = ", ".join(path.parent.name for path in found) or "none"
        raise DataError(f"{folder}/recipes: one folder with a recipe.toml is wanted, not {names}")
    return found[0]


def list_contradictions(row: Row, recipe: Recipe, toolkits: Toolkits) -> list[tuple[str, str]]:
    """What the three files say against each other about one cell: (key of the row, words)."""
    cell, ref, toolkit = row.cell, recipe.find_ref(row.cell.torch), toolkits.get(row.cell.cuda)
    faults = []
    if ref is None:
        faults.append(("torch", f"no ref of the recipe serves torch {cell.torch_text}"))
    else:
        python = cell.python.removeprefix("cp").removesuffix("t")
        if (int(python[0]), int(python[1:])) < ref.python_min:
            least = version_text(ref.python_min)
            faults.append(("pythons", f"{ref.name} needs Python {least}, not {cell.python}"))
        if not recipe.list_default(ref, cell.cuda):
            faults.append(("cudas", f"{ref.name} has no module for CUDA {cell.cuda_text}"))
    if toolkit is None:
        faults.append(("cudas", f"toolkits.toml has no CUDA {cell.cuda_text}"))
    else:
        asked = {*row.architectures.machine_code, *row.architectures.ptx}
        unknown = sorted(asked - set(toolkit.architectures))
        faults += [
            ("cudas", f"nvcc of CUDA {cell.cuda_text} makes no code for {a}") for a in unknown
        ]
    return faults


def _read(folder: Path, name: str) -> Document | DataError:
    """A file that is no TOML is a value, so that the faults of the others are not lost."""
    try:
        return read_document(folder / name, file=name)
    except DataError as error:
        return error


def _parse(document: Document | DataError, parse: Callable[[Document], Parsed]) -> Parsed | None:
    return parse(document) if isinstance(document, Document) else None
