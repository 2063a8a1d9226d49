"""What the farm shows people on stdout, and the same as JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FEW = 3


def print_json(value: Any) -> None:
    """One document on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def print_line(text: str) -> None:
    """One line on stdout, at once: a step's result, or a server's address."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # what comes on stderr next shall come next when both are piped, too
    sys.stdout.flush()


def print_table(
    rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str], as_json: bool
) -> None:
    """The rows' `columns` as a table that fits the terminal, or all of the rows as JSON."""
    found = list(rows)
    if as_json:
        print_json(found)
        return
    from rich import box  # noqa: PLC0415 - a tenth of a second that only tables cost
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(*(_cell_text(row.get(column, "")) for column in columns))
    # Piped, a table is for grep: as wide as it likes, one row a line.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 400, highlight=False)
    console.print(table)


def _cell_text(value: Any) -> str:
    """A list of many is its length: all of them are in the JSON."""
    if isinstance(value, list):
        return " ".join(value) if len(value) <= _FEW else f"{len(value)}"
    return str(value)
