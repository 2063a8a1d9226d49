"""The swap: the old package away, the new one into place, and never half of either.

The package folder is taken away first and put back last; modules and dist-info move in between.
So whoever is killed at any point leaves a package whose files are all of one RECORD, or none that
can be imported. The journal names what is between; `heal` finishes or undoes it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Optional, Sequence, Tuple

from apex_installer.model.recipe import Recipe
from apex_installer.put.advance import advance, clean, is_in, undo
from apex_installer.put.installed import Installed, find_metadata
from apex_installer.put.intact import extra_files
from apex_installer.put.journal import Journal, mark_done, write_journal
from apex_installer.put.workspace import OLD, Workspace, target_error


def swap_in(
    stage: str,
    *,
    workspace: Workspace,
    recipe: Recipe,
    what: str,
    old: Optional[Installed],
    aside: str,
) -> Tuple[str, ...]:
    """Swap what the folder `stage` of the workspace holds for what is there; lines to say.

    `old` is what the target itself holds. `aside` names the folder that keeps it whole, or is empty
    to let it go. On any failure it is back in its place and TargetError says why.
    """
    units = os.listdir(workspace.in_it(stage))
    present = _units_present(workspace.target, recipe, old, coming=units)
    package = recipe.package
    journal = Journal(
        what=what,
        hide=next((unit for unit in (package, f"{package}.py") if unit in present), ""),
        out=tuple(unit for unit in present if unit not in (package, f"{package}.py")),
        old=aside or workspace.name_for(OLD),
        keep_old=bool(aside),
        extras=() if aside else extra_units(workspace.target, old, present),
        into=tuple(sorted(unit for unit in units if unit != package)),
        show=package if package in units else "",
        new=stage,
        drop=(),
    )
    return run_swap(workspace, journal)


def run_swap(workspace: Workspace, journal: Journal) -> Tuple[str, ...]:
    """Do it, or undo it and raise TargetError."""
    try:
        write_journal(workspace.path, journal)
        advance(workspace, journal)
        mark_done(workspace.path)
    except BaseException as error:
        # Once the new package is in its place nothing is taken back: the next run clears away.
        if not is_in(workspace, journal):
            with suppress(OSError):  # the journal is still there then, and the next run sees to it
                undo(workspace, journal)
        if isinstance(error, OSError):
            raise target_error(workspace.target, error) from error
        raise
    try:
        return clean(workspace, journal)
    except OSError:
        return ()  # the next run clears the rest away


def _units_present(
    target: str, recipe: Recipe, old: Optional[Installed], *, coming: Sequence[str]
) -> Tuple[str, ...]:
    """What must go: the old install's units, stray metadata, and whatever stands in the way."""
    wanted = [recipe.package, *find_metadata(target, recipe.distribution), *coming]
    wanted += old_units(old) if old else ()
    return tuple(
        unit for unit in dict.fromkeys(wanted) if os.path.lexists(os.path.join(target, unit))
    )


def old_units(old: Installed) -> Tuple[str, ...]:
    """Its package and dist-info as folders, every other file of its RECORD alone.

    Other packages may have files in the other folders; what lies outside the target (scripts) is
    left where it is.
    """
    folders = (old.package, os.path.basename(old.dist_info))
    units = []
    for row in old.rows:
        top = row.path.partition("/")[0]
        if top in folders:
            units.append(top)
        elif _is_inside(row.path) and "/__pycache__/" not in row.path:
            units.append(row.path)
    return tuple(dict.fromkeys(unit for unit in [*folders, *units] if unit))


def _is_inside(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


def extra_units(target: str, old: Optional[Installed], present: Sequence[str]) -> Tuple[str, ...]:
    """What a user, or another program, has put among the units that go: none of it is deleted."""
    known = old is not None and old.has_record
    owned = set(old_units(old)) if old and known else set()
    strays = [unit for unit in present if unit not in owned and _has_files(target, unit)]
    return (*(extra_files(old) if old and known else ()), *strays)


def _has_files(target: str, unit: str) -> bool:
    path = os.path.join(target, unit)
    return not os.path.isdir(path) or any(files for _, _, files in os.walk(path))
