"""Lines of cells that are worked on at the same time can be told apart."""

from __future__ import annotations

import logging

from wheelbuild.telling import CellFormatter, told_for

CELL = "cp311-torch2.11-cu130-linux_x86_64"


def formatted(message: str) -> str:
    record = logging.LogRecord("wheelbuild", logging.INFO, "", 0, message, None, None)
    return CellFormatter("%(message)s").format(record)


def test_a_message_stands_behind_its_cell_once() -> None:
    assert formatted("CUDA 13.0") == "CUDA 13.0"
    with told_for(CELL):
        assert formatted("CUDA 13.0") == f"{CELL}: CUDA 13.0"
        assert formatted(f"{CELL}: repair") == f"{CELL}: repair"
        assert formatted("one\ntwo") == f"{CELL}: one\n{CELL}: two"
    assert formatted("CUDA 13.0") == "CUDA 13.0"
