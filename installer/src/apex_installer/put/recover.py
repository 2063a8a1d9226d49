"""Finish or undo what a killed run left, by what is on the disk."""

from __future__ import annotations

import os
from typing import Optional

from apex_installer.put.advance import advance, clean, forget, has_begun, is_in
from apex_installer.put.installed import RECEIPT
from apex_installer.put.journal import Journal, mark_done, read_journal, write_journal
from apex_installer.put.move import is_free, move
from apex_installer.put.workspace import DONE, MOVING, Workspace, delete, target_error

FORGET, FINISH, ABANDON = "forget", "finish", "abandon"


def heal_locked(workspace: Workspace) -> Optional[str]:
    """See `heal`; for who holds the lock."""
    line = None
    try:
        done = read_journal(workspace.path, DONE)
        if done:
            clean(workspace, done)
        journal = read_journal(workspace.path, MOVING)
        if journal:
            line = _HEALED[_find_course(workspace, journal)](workspace, journal)
        workspace.sweep()
    except OSError as error:
        raise target_error(workspace.target, error) from error
    return line


def _find_course(workspace: Workspace, journal: Journal) -> str:
    """What to do about a swap that was cut off, from what is on disk.

    A package in the place that is neither ours to take away nor the one we were bringing was put
    there by somebody else since: then the swap is abandoned, and theirs stays.
    """
    if journal.hide and not has_begun(workspace, journal):
        return FORGET
    if is_in(workspace, journal):
        return FINISH
    names = {journal.hide, journal.show} - {""}
    places = [os.path.join(workspace.target, name) for name in names]
    return FINISH if all(is_free(place) for place in places) else ABANDON


def _heal_forget(workspace: Workspace, journal: Journal) -> str:
    forget(workspace, journal)
    delete(workspace.in_it(journal.old))  # copies at most: what they are of is in its place
    return f"an interrupted change to {journal.what} had moved nothing yet and was dropped"


def _heal_finish(workspace: Workspace, journal: Journal) -> str:
    advance(workspace, journal)
    mark_done(workspace.path)
    notes = clean(workspace, journal)
    return "; ".join([f"an interrupted change to {journal.what} was finished", *notes])


def _heal_abandon(workspace: Workspace, journal: Journal) -> str:
    """Theirs stays; what would describe ours beside it, the old or the new, goes."""
    for folder, units in ((journal.old, journal.out), (journal.new, journal.into)):
        for unit in units:
            place, saved = os.path.join(workspace.target, unit), workspace.in_it(f"{folder}/{unit}")
            if os.path.isfile(os.path.join(place, RECEIPT)) and not os.path.lexists(saved):
                move(place, saved)
    journal = journal._replace(drop=())  # what was to come back is still wanted
    write_journal(workspace.path, journal)
    mark_done(workspace.path)
    notes = clean(workspace, journal)
    line = f"an interrupted change to {journal.what} was given up: another one is in its place now"
    return "; ".join([line, *notes])


_HEALED = {FORGET: _heal_forget, FINISH: _heal_finish, ABANDON: _heal_abandon}
