"""Changes of a TOML text that keep its comments and its order. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelbuild.document import find_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wheelbuild.document import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class _Change:
    line: int
    """From 0."""
    taken: int
    """Lines that are replaced."""
    put: tuple[str, ...]


class TomlText:
    """A sound text and the changes so far."""

    def __init__(self, text: str) -> None:
        """`text` must parse."""
        self.lines = text.splitlines()
        self.places = find_lines(text)
        self.changes: list[_Change] = []

    def append(self, table: Sequence[str], *, after: Place) -> None:
        """Put a table, after a blank line, behind the last one whose place begins like `after`.

        `("cells",)` stands for all [[cells]], `("torch", 3)` for one [[torch]] and all below it.
        """
        end = self._end_of(after)
        self.changes.append(_Change(line=end, taken=0, put=("", *table)))

    def replace_list(self, place: Place, values: Iterable[str]) -> None:
        """Write a list of strings anew, in one line, with the comment that follows it."""
        line = self.places[place] - 1
        stop = next(n for n in range(line, len(self.lines)) if "]" in self.lines[n])
        comment = re.search(r"\]\s*(#.*)$", self.lines[stop])
        ending = f" {comment[1]}" if comment else ""
        text = f"{place[-1]} = {json.dumps(list(values))}{ending}"
        self.changes.append(_Change(line=line, taken=stop - line + 1, put=(text,)))

    def apply(self) -> str:
        """The changed text; what was appended to one place stands in the order of the calls."""
        lines = list(self.lines)
        numbered = sorted(enumerate(self.changes), key=lambda one: (one[1].line, one[0]))
        for _, change in reversed(numbered):
            lines[change.line : change.line + change.taken] = change.put
        return "\n".join(lines) + "\n"

    def _end_of(self, start: Place) -> int:
        """The line (from 0) after a table; blank lines and comments before the next are its own."""
        starts = {
            number - 1: place
            for place, number in self.places.items()
            if place and self.lines[number - 1].lstrip().startswith("[")
        }
        mine = [number for number, place in starts.items() if place[: len(start)] == start]
        end = min((n for n in starts if n > max(mine)), default=len(self.lines))
        while end and (not self.lines[end - 1].strip() or self.lines[end - 1].startswith("#")):
            end -= 1
        return end
