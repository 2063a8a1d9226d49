"""The folders, the log and the clock of one build."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass, field
from typing import Dict, Iterator, Optional

from apex_installer.errors import CompileError
from apex_installer.make.graph import SHIMS
from apex_installer.make.request import BuildRequest


@dataclass(frozen=True)
class Workshop:
    """What all steps of one build share."""

    work: str
    """Kept from build to build: objects, modules, timings."""
    private: str
    """Removed at the end; the compilers' TMPDIR lies here."""
    log: str
    began: float
    ends_at: Optional[float]
    """Time of `time.monotonic`, or no limit."""
    seconds: Dict[str, float] = field(default_factory=dict)
    """Per step, in order."""

    @property
    def shim(self) -> str:
        """The folder that holds the stand-ins for torch's headers."""
        return os.path.join(self.work, "shim")

    def note(self, line: str) -> None:
        """Add a line to the log."""
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"# {line}\n")

    def mark(self, step: str) -> None:
        """A step has ended."""
        passed = time.monotonic() - self.began - sum(self.seconds.values())
        self.seconds[step] = round(passed, 3)


@contextlib.contextmanager
def open_workshop(request: BuildRequest, *, log: str) -> Iterator[Workshop]:
    """Make the folders, start the clock and a new log; remove what is private at the end.

    CompileError where a disk ends the build: full, read-only, broken.
    """
    work, began = os.path.abspath(request.work), time.monotonic()
    shop = Workshop(
        work=work,
        private=os.path.join(work, f"{_private_prefix()}{os.getpid()}"),
        log=os.path.abspath(log),
        began=began,
        ends_at=None if request.time_limit is None else began + request.time_limit,
    )
    try:
        _furnish(shop, request)
        yield shop
    except OSError as error:
        where = error.filename or work
        raise CompileError(f"{where}: {error.strerror}; free some space or set TMPDIR") from error
    finally:
        shutil.rmtree(shop.private, ignore_errors=True)


def _furnish(shop: Workshop, request: BuildRequest) -> None:
    _remove_leftovers(shop.work)
    for folder in (shop.private, os.path.dirname(shop.log)):
        os.makedirs(folder, exist_ok=True)
    # An object is not trusted whose inputs are newer than its compiler's start.
    for name, text in SHIMS.items():
        path = os.path.join(shop.shim, name)
        if read_text(path) != text:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path, text)
    _write(shop.log, f"# {request.cell} {request.version}\n")


def _private_prefix() -> str:
    # Two pods that share a volume may count their processes alike.
    return f"tmp-{os.uname().nodename}-"


def _remove_leftovers(work: str) -> None:
    """Private folders of builds that were killed; a precompiled header is most of a gigabyte."""
    for name in os.listdir(work) if os.path.isdir(work) else []:
        number = name[len(_private_prefix()) :]
        if not name.startswith(_private_prefix()) or not number.isdigit():
            continue
        if not os.path.exists(f"/proc/{number}"):
            shutil.rmtree(os.path.join(work, name), ignore_errors=True)


def read_text(path: str) -> str:
    """A file's text, or nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
