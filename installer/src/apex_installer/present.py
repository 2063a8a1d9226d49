"""What to do with an Apex that is there already. Pure: facts in, one decision out."""

from __future__ import annotations

from enum import Enum
from typing import Optional, Tuple

from apex_installer.values import dataclass


class Verdict(Enum):
    """What becomes of what is there."""

    NOTHING_THERE = "nothing there"
    STANDS = "stands"
    """It is right: outcome `already`."""
    REPLACE = "replace"
    """Ours, and something better is wanted."""
    PUT_ASIDE = "put aside"
    """Foreign: replaced by the same swap, kept, brought back by `remove`."""
    LEAVE = "leave"
    """Foreign and not ours to touch: exit 3."""


@dataclass(frozen=True)
class Present:
    """What was found in the target, as facts."""

    name: str
    version: str
    owner: str
    """`ours`, `pip`, `uv`, … or `unknown`."""
    replaceable: bool
    """It has a RECORD and is not editable."""
    faults: Tuple[str, ...]
    """Why it does not stand; empty when it does."""
    where: str


@dataclass(frozen=True)
class Decision:
    """The verdict with its sentence."""

    verdict: Verdict
    why: str = ""


def decide(present: Optional[Present], *, keep_foreign: bool, replace_foreign: bool) -> Decision:
    """A foreign one that fits is left alone; one that does not is put aside if pip owns it."""
    if present is None:
        return Decision(Verdict.NOTHING_THERE)
    why = "; ".join(present.faults)
    if present.owner == "ours":
        return Decision(Verdict.REPLACE, why) if why else Decision(Verdict.STANDS)
    name = f"{present.name} {present.version} in {present.where} (installed by {present.owner})"
    if replace_foreign:
        return Decision(Verdict.PUT_ASIDE, f"{name}: to be replaced, as --replace-foreign asks")
    if not present.faults:
        return Decision(Verdict.STANDS, f"{name} fits")
    if keep_foreign:
        return Decision(Verdict.LEAVE, f"{name} does not fit: {why}; kept, as --keep-foreign asks")
    if present.replaceable:
        return Decision(Verdict.PUT_ASIDE, f"{name} does not fit: {why}; to be put aside")
    return Decision(
        Verdict.LEAVE,
        f"{name} does not fit: {why}; it is not ours to touch: remove it, "
        "or run again with --replace-foreign",
    )
