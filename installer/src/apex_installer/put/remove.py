"""Take our install away, and bring back what it had put aside: the same swap, the other way."""

from __future__ import annotations

import os
from typing import Iterable, Optional

from apex_installer.errors import TargetError
from apex_installer.model.recipe import Recipe
from apex_installer.put.heal import heal
from apex_installer.put.installed import OURS, Installed, has_package, read_installed
from apex_installer.put.journal import Journal
from apex_installer.put.move import copy
from apex_installer.put.receipt import Receipt, read_receipt
from apex_installer.put.recover import heal_locked
from apex_installer.put.swap import extra_units, old_units, run_swap
from apex_installer.put.workspace import OLD, STAGE, Workspace, target_error


def remove(target: str, *, recipe: Recipe) -> str:
    """Remove our install from the target; the line that says what was done.

    TargetError where there is none, or one that is not ours. What a user has put among its files
    is kept. A removal that was cut off is finished.
    """
    healed = heal(target)
    if _read_ours(target, recipe) is None:
        if healed:
            return healed
        raise TargetError(_not_ours(target, recipe))
    with Workspace(target) as workspace:
        heal_locked(workspace)
        installed = _read_ours(target, recipe)
        if installed is None:
            return f"{recipe.distribution} was removed from {target} by another run"
        receipt = read_receipt(installed)
        try:
            journal = _journal(workspace, installed, receipt, recipe)
        except OSError as error:
            raise target_error(target, error) from error
        notes = run_swap(workspace, journal)
    line = f"{recipe.distribution} {installed.version} was removed from {target}"
    if journal.show:
        line += "; what was there before is back"
    return "; ".join([line, *notes])


def _read_ours(target: str, recipe: Recipe) -> Optional[Installed]:
    found = read_installed(target, recipe, (target,))
    return found if found and found.owner == OURS else None


def _not_ours(target: str, recipe: Recipe) -> str:
    found = read_installed(target, recipe, (target,))
    name = recipe.distribution
    if found is None:
        return f"no {name} in {target}"
    return f"{name} in {target} was installed by {found.owner}: remove it with that"


def _journal(
    workspace: Workspace, installed: Installed, receipt: Optional[Receipt], recipe: Recipe
) -> Journal:
    target, package = workspace.target, recipe.package
    present = [unit for unit in old_units(installed) if _is_there(target, unit)]
    aside = receipt.aside if receipt else ""
    stage = _stage_of(workspace, aside)
    back = tuple(_units_of(workspace.in_it(stage), package)) if stage else ()
    present += [unit for unit in back if unit not in present and _is_there(target, unit)]
    # A folder without __init__ was nobody's package: it may come back before the end.
    whole = has_package(workspace.in_it(stage), package)
    show = next((unit for unit in (package, f"{package}.py") if whole and unit in back), "")
    return Journal(
        what=f"{installed.package} {installed.version}",
        hide=package if package in present else "",
        out=tuple(unit for unit in present if unit != package),
        old=workspace.name_for(OLD),
        keep_old=False,
        extras=extra_units(target, installed, present),
        into=tuple(unit for unit in back if unit != show),
        show=show,
        new=stage,
        drop=(aside,) if aside else (),
    )


def _is_there(target: str, unit: str) -> bool:
    return os.path.lexists(os.path.join(target, unit))


def _stage_of(workspace: Workspace, aside: str) -> str:
    """What was put aside, once more: folders of an image cannot be moved, files can be shared."""
    if not aside or not os.path.isdir(workspace.in_it(aside)):
        return ""
    stage = workspace.name_for(STAGE)
    copy(workspace.in_it(aside), workspace.in_it(stage), link=True)
    return stage


def _units_of(folder: str, package: str) -> Iterable[str]:
    """What was put aside: package and metadata as folders, everything else file by file."""
    if not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        whole = name == package or name.endswith("-info")
        if whole or not os.path.isdir(path) or os.path.islink(path):
            yield name
            continue
        for parent, _, files in os.walk(path):
            yield from (os.path.relpath(os.path.join(parent, file), folder) for file in files)
