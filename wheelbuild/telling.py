"""Whose lines are whose, where cells are worked on at the same time: each begins with its cell."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_cell: ContextVar[str] = ContextVar("cell", default="")
_PATIENCE = 5.0
"""Seconds for the last words of a program that has ended."""


@contextlib.contextmanager
def told_for(cell: str) -> Iterator[None]:
    """What is said inside, by us and by programs that are shown, begins with the cell's label."""
    token = _cell.set(cell)
    try:
        yield
    finally:
        _cell.reset(token)


class CellFormatter(logging.Formatter):
    """The message, behind the cell that it is of, if that is not its first word already."""

    def format(self, record: logging.LogRecord) -> str:
        """Every line of it."""
        cell, text = _cell.get(), super().format(record)
        return "\n".join(
            line if line.startswith(cell) else f"{cell}: {line}" for line in lines(text)
        )


def lines(text: str) -> list[str]:
    """At least one."""
    return text.splitlines() or [""]


def say(line: str) -> None:
    """One line of a program, with its end, to our stderr."""
    cell = _cell.get()
    sys.stderr.write(f"{cell}: {line}" if cell else line)


@contextlib.contextmanager
def shown() -> Iterator[int | None]:
    """A descriptor for the stderr of a program that is shown; None: our own.

    One cell alone keeps the terminal's living line; of several each line is passed on.
    """
    cell = _cell.get()
    if not cell:
        yield None
        return
    ours, theirs = os.pipe()
    copier = threading.Thread(target=_pass_on, args=(ours, cell), daemon=True)
    copier.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        copier.join(timeout=_PATIENCE)


def _pass_on(descriptor: int, cell: str) -> None:
    with told_for(cell), open(descriptor, errors="replace") as stream:
        for line in stream:
            say(line)
