"""Flags of the commands in `planning_commands`, for the command line's table."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def _plan(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    default = os.environ.get("WHEELBUILD_INDEX", "dist/index")
    text = "folder or address of the index (default: dist/index)"
    add("--index", metavar="DIR|URL", default=default, help=text)
    text = 'reports of apex-install and issues "want this wheel?", JSON lines: missed most first'
    add("--misses", metavar="FILE", type=_file, help=text)
    add("--estimate", action="store_true", help="minutes, downloads and disk, and what is assumed")
    add("--cores", metavar="N", type=_number, help="for the estimate (default: this machine's)")


def _note_failures(parser: argparse.ArgumentParser) -> None:
    text = "keep what fails in known-failures.toml, which plan leaves out; take out what succeeds"
    parser.add_argument("--note-failures", action="store_true", help=text)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return path


def _number(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


PLAN = (_plan,)
RUN = (_note_failures,)
