"""What the package needs at run time and we do not install: looked for, with the pip line."""

from __future__ import annotations

import os
from typing import Optional, Tuple

from apex_installer.errors import RequirementError
from apex_installer.model.environment import Environment
from apex_installer.model.recipe import Recipe, Requirement
from apex_installer.put.installed import Installed
from apex_installer.put.receipt import read_receipt


def missing_requirements(
    recipe: Recipe, ref: str, environment: Environment
) -> Tuple[Requirement, ...]:
    """What the package of this commit needs and no directory of the interpreter's path holds."""
    places = (environment.target, *environment.interpreter.path)
    return tuple(
        requirement
        for requirement in recipe.requirements_of(ref)
        if not any(_holds(place, requirement.module) for place in places)
    )


def _holds(place: str, module: str) -> bool:
    base = os.path.join(place, *module.split("."))
    return os.path.isdir(base) or os.path.isfile(base + ".py")


def requirement_error(
    recipe: Recipe, ref: str, environment: Environment
) -> Optional[RequirementError]:
    """The pip line for what is missing, or None."""
    missing = missing_requirements(recipe, ref, environment)
    if not missing:
        return None
    wanted = " ".join(f"'{requirement.specifier}'" for requirement in missing)
    names = ", ".join(requirement.name for requirement in missing)
    return RequirementError(
        f"{recipe.distribution} needs {names}, which is missing: "
        f"{environment.interpreter.executable} -m pip install {wanted}",
        breaks_import=any(requirement.needed_for_import for requirement in missing),
    )


def ref_of(installed: Optional[Installed]) -> str:
    """The commit that an Apex of ours is of; `*` where nothing says so."""
    receipt = read_receipt(installed) if installed is not None else None
    return str(receipt.entry.get("ref", "*")) if receipt else "*"
