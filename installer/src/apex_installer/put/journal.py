"""The journal of a swap: what is between, so that whoever comes next can finish or undo it.

It is written whole before the first move and renamed to `done.json` after the last, so that what
is found after a kill says by itself how far the swap had come.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple, Optional, Tuple

from apex_installer.errors import TargetError
from apex_installer.put.workspace import DONE, MOVING

SCHEMA = 1


class Journal(NamedTuple):
    """One swap. Names of units are relative to the target, of folders to the workspace."""

    what: str
    """For the line that says what became of it: `apex 0.1+…`."""
    hide: str
    """The package as it is taken away, first of all; empty where none is there."""
    out: Tuple[str, ...]
    """What is taken away after it."""
    old: str
    """Folder that takes them."""
    keep_old: bool
    """Whether that folder stays (a foreign package, put aside)."""
    extras: Tuple[str, ...]
    """Files in `old` that the package's RECORD does not know: a user's, to be kept."""
    into: Tuple[str, ...]
    """What is moved in then."""
    show: str
    """The package, last of all; empty where none comes."""
    new: str
    """Folder that they come from; empty where nothing comes."""
    drop: Tuple[str, ...]
    """Folders that are of no more use when the swap has come to its end."""


def write_journal(workspace: str, journal: Journal) -> None:
    """Atomically: it is there whole or not at all."""
    path = os.path.join(workspace, MOVING)
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        file.write(json.dumps({"schema": SCHEMA, **journal._asdict()}))
    os.rename(f"{path}.part", path)


def read_journal(workspace: str, name: str) -> Optional[Journal]:
    """The journal under one of its two names; None where there is none.

    TargetError for one that this version cannot read: an older copy must not guess.
    """
    path = os.path.join(workspace, name)
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        del data["schema"]  # an unknown one has other fields, which the next line refuses
        lists = {name: tuple(data[name]) for name in ("out", "into", "extras", "drop")}
        return Journal(**{**data, **lists})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TargetError(
            f"{path} cannot be read ({error}): use the apex-install that wrote it, or a newer one"
        ) from error


def mark_done(workspace: str) -> None:
    """The point of no return."""
    os.rename(os.path.join(workspace, MOVING), os.path.join(workspace, DONE))
