"""The moves of a swap: forwards, backwards, and what is left to clear away. Each can be repeated.

Where a swap stands is read from the disk, never remembered: an old unit is away when `old` has it,
a new one is in place when `new` has it no more.
"""

from __future__ import annotations

import os
from typing import Tuple

from apex_installer.put.journal import Journal
from apex_installer.put.move import INIT, drop_guard, is_guarded, move, put_in, take_away
from apex_installer.put.workspace import DONE, KEPT, MOVING, Workspace, delete

SHOWN = 3
"""Kept files that a line names."""


def advance(workspace: Workspace, journal: Journal) -> None:
    """All moves that are still to be made, in their order. OSError passes."""
    _take_out(workspace, journal)
    for unit in journal.into:
        coming = workspace.in_it(f"{journal.new}/{unit}")
        if os.path.lexists(coming):
            move(coming, os.path.join(workspace.target, unit))
    if journal.show and not is_in(workspace, journal):
        place = os.path.join(workspace.target, journal.show)
        put_in(workspace.in_it(f"{journal.new}/{journal.show}"), place)
    elif journal.hide and not journal.show:
        package = os.path.join(workspace.target, journal.hide)
        drop_guard(package, spare=workspace.in_it("guard.part"))


def _take_out(workspace: Workspace, journal: Journal) -> None:
    """The package first: from then on nothing of it can be imported."""
    if journal.hide and not is_in(workspace, journal):
        package = os.path.join(workspace.target, journal.hide)
        saved = workspace.in_it(f"{journal.old}/{journal.hide}")
        if is_guarded(package) or not os.path.lexists(saved):
            take_away(package, saved)
    for unit in journal.out:
        place = os.path.join(workspace.target, unit)
        saved = workspace.in_it(f"{journal.old}/{unit}")
        if unit in journal.into and not os.path.lexists(workspace.in_it(f"{journal.new}/{unit}")):
            continue  # the new one is in place already
        if os.path.lexists(saved):
            delete(place)  # copied whole before, and not yet gone
        elif os.path.lexists(place):
            move(place, saved)


def has_begun(workspace: Workspace, journal: Journal) -> bool:
    """Whether anything may have been moved; before the package is away, nothing is."""
    if not journal.hide:
        return True
    package = os.path.join(workspace.target, journal.hide)
    saved = workspace.in_it(f"{journal.old}/{journal.hide}")
    return is_guarded(package) or os.path.lexists(saved)


def is_in(workspace: Workspace, journal: Journal) -> bool:
    """Whether the new package is in its place: its folder, or the last file of it, was moved."""
    if not journal.show:
        return False  # nothing comes
    coming = workspace.in_it(f"{journal.new}/{journal.show}")
    return not os.path.lexists(os.path.join(coming, INIT) if os.path.isdir(coming) else coming)


def undo(workspace: Workspace, journal: Journal) -> None:
    """The same moves backwards, the old package last. OSError passes, and the journal stays."""
    target = workspace.target
    if has_begun(workspace, journal):
        for unit in journal.into:
            place, coming = os.path.join(target, unit), workspace.in_it(f"{journal.new}/{unit}")
            if not os.path.lexists(coming) and os.path.lexists(place):
                move(place, coming)
        for unit in journal.out:
            saved = workspace.in_it(f"{journal.old}/{unit}")
            if os.path.lexists(saved):
                delete(os.path.join(target, unit))
                move(saved, os.path.join(target, unit))
        if journal.hide:
            put_in(
                workspace.in_it(f"{journal.old}/{journal.hide}"), os.path.join(target, journal.hide)
            )
    forget(workspace, journal)
    delete(workspace.in_it(journal.old))  # folders, and copies of what is back in place


def forget(workspace: Workspace, journal: Journal) -> None:
    """The journal first: without it what is staged is only litter, for `sweep`."""
    delete(workspace.in_it(MOVING))
    delete(workspace.in_it(f"{MOVING}.part"))
    if journal.new:
        delete(workspace.in_it(journal.new))


def clean(workspace: Workspace, journal: Journal) -> Tuple[str, ...]:
    """After the last move: rescue what is a user's, drop the rest, close the journal."""
    notes: Tuple[str, ...] = ()
    if not journal.keep_old:
        notes = _rescue(workspace, journal)
        delete(workspace.in_it(journal.old))
    for folder in (journal.new, *journal.drop):
        if folder:
            delete(workspace.in_it(folder))
    delete(workspace.in_it(DONE))
    return notes


def _rescue(workspace: Workspace, journal: Journal) -> Tuple[str, ...]:
    saved = [
        unit for unit in journal.extras if os.path.lexists(workspace.in_it(f"{journal.old}/{unit}"))
    ]
    if not saved:
        return ()
    kept = workspace.next_name(KEPT)
    for unit in saved:
        move(workspace.in_it(f"{journal.old}/{unit}"), workspace.in_it(f"{kept}/{unit}"))
    some = ", ".join(saved[:SHOWN]) + (" …" if len(saved) > SHOWN else "")
    return (f"kept in {workspace.in_it(kept)} what no RECORD knew: {some}",)
