"""Flags of the commands in `planning_commands`, for the command line's table."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.errors import UsageError
from apex_installer.model.arch import parse_version
from wheelbuild.upstream import PYPI, PYTORCH

if TYPE_CHECKING:
    from apex_installer.model.arch import Version


def _place(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("WHEELBUILD_INDEX", "dist/index")
    text = "folder or address of the index (default: dist/index)"
    parser.add_argument("--index", metavar="DIR|URL", default=default, help=text)


def _plan(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = 'reports of apex-install and issues "want this wheel?", JSON lines: missed most first'
    add("--misses", metavar="FILE", type=_file, help=text)
    add("--estimate", action="store_true", help="minutes, downloads and disk, and what is assumed")
    add("--cores", metavar="N", type=_number, help="for the estimate (default: this machine's)")


def _note_failures(parser: argparse.ArgumentParser) -> None:
    text = "keep what fails in known-failures.toml, which plan leaves out; take out what succeeds"
    parser.add_argument("--note-failures", action="store_true", help=text)


def _discover(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--write", action="store_true", help="write matrix.toml too")
    text = "open or renew one pull request with the change, in the repository of --store"
    add("--propose", action="store_true", help=text)
    text = f"simple index that has torch (default: PIP_INDEX_URL, else {PYPI})"
    pypi = os.environ.get("PIP_INDEX_URL") or PYPI
    add("--pypi-url", metavar="URL", type=_url, default=pypi, help=text)
    text = f"PyTorch's own indexes are below it (default: {PYTORCH})"
    add("--pytorch-url", metavar="URL", type=_url, default=PYTORCH, help=text)
    text = "the oldest torch to look at (default: 2.4)"
    add("--since", metavar="MINOR", type=_minor, default=(2, 4), help=text)


def _coverage(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--write", action="store_true", help="write coverage.html into the index")
    add("--out", metavar="FILE", type=Path, help="write the page to a file")


def _evidence(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", metavar="add", choices=["add"], help="what to do with it")
    add("report", metavar="FILE", type=_file, help="what the pod's check printed")
    _folder(parser)


def _folder(parser: argparse.ArgumentParser) -> None:
    default = Path(os.environ.get("WHEELBUILD_INDEX", "dist/index"))
    text = "folder of the index (default: dist/index)"
    parser.add_argument("--index", metavar="DIR", type=Path, default=default, help=text)


def _minor(text: str) -> Version:
    try:
        return parse_version(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s?#]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an https:// address")
    return text.rstrip("/")


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return path


def _number(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


PLAN = (_place, _plan)
COVERAGE = (_place, _coverage)
DISCOVER = (_discover,)
EVIDENCE = (_evidence,)
RUN = (_note_failures,)
