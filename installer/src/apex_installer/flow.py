"""The install, as a list of named steps: read, heal, already, outcomes, requirements, report."""

from __future__ import annotations

from typing import Mapping, Optional, Tuple

from apex_installer import data
from apex_installer.account import Account
from apex_installer.check import find_module_files, missing_requirements, module_faults
from apex_installer.deadline import Deadline
from apex_installer.errors import (
    CheckError,
    CompileError,
    DeadlineError,
    DownloadError,
    InstallError,
    NoWheelError,
    RequirementError,
    TargetError,
    ToolkitError,
    TrustError,
)
from apex_installer.get.cache import Cache, find_cache
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.model.recipe import Recipe
from apex_installer.model.report import AT_LEAST, Report
from apex_installer.model.request import Request
from apex_installer.outcomes import OUTCOMES, Situation
from apex_installer.present import Decision, Present, Verdict, decide
from apex_installer.put.installed import Installed, read_installed
from apex_installer.put.receipt import read_receipt, receipt_stands
from apex_installer.put.swap import heal
from apex_installer.read.environment import read_environment

STEPS_DOWN = (
    NoWheelError,
    DownloadError,
    DeadlineError,
    TrustError,
    CheckError,
    CompileError,
    ToolkitError,
)
"""Only these lead one outcome down: nothing fits, not to be had in time, bad bytes, failed check
or compile. Anything else ends the install."""


def load_recipe() -> Recipe:
    """The recipe that this copy was packed with."""
    text = data.read("recipe.json")
    if text is None:
        raise InstallError("this apex-install was packed without a recipe")
    return Recipe.from_json(text)


def install(request: Request, *, environ: Mapping[str, str], account: Account) -> Report:
    """Do it, or say with `--dry-run` what would be done. Raises only what is nobody's outcome."""
    recipe = load_recipe()
    modules = recipe.modules_for(request.require)
    deadline = Deadline(request.deadline)
    with account.step("read"):
        environment = read_environment(request, environ=environ)
    account.environment = environment
    account.find(environment.devices.note)
    if not request.dry_run:
        with account.step("heal"):
            account.find(heal(environment.target))
    with account.step("already"):
        old = read_installed(environment.target, recipe, environment.interpreter.path)
        decision = decide_present(old, environment, recipe, modules, request)
    if decision.verdict is Verdict.LEAVE:
        raise TargetError(decision.why)
    account.find(decision.why)
    if decision.verdict is Verdict.STANDS and old is not None:
        return close_already(old, account, environment, recipe)
    with Cache(find_cache(flag=request.cache_dir, environ=environ)) as cache:
        return try_outcomes(
            Situation(
                request=request,
                recipe=recipe,
                environment=environment,
                modules=modules,
                old=old,
                put_aside=decision.verdict is Verdict.PUT_ASIDE,
                deadline=deadline,
                cache=cache,
                account=account,
            )
        )


def decide_present(
    old: Optional[Installed],
    environment: Environment,
    recipe: Recipe,
    modules: Tuple[str, ...],
    request: Request,
) -> Decision:
    """Gather the facts about what is there, and decide."""
    present = None
    if old is not None:
        present = Present(
            name=recipe.distribution,
            version=old.version,
            owner=old.owner,
            replaceable=old.replaceable,
            faults=_faults(old, environment, modules, request),
            where=old.directory,
        )
    return decide(
        present, keep_foreign=request.keep_foreign, replace_foreign=request.replace_foreign
    )


def _faults(
    old: Installed, environment: Environment, modules: Tuple[str, ...], request: Request
) -> Tuple[str, ...]:
    if old.owner == "ours":
        receipt = read_receipt(old)
        if receipt is None:
            return ("its receipt cannot be read",)
        if AT_LEAST.index(receipt.outcome) < AT_LEAST.index(request.at_least):
            return (f"is {receipt.outcome}, and --at-least {request.at_least} is asked",)
        why = receipt_stands(receipt, environment=environment, modules=modules, installed=old)
        return (why,) if why else ()
    files = find_module_files(
        (old.directory,), modules, suffix=environment.interpreter.extension_suffix
    )
    return module_faults(files, environment)


def close_already(
    old: Installed, account: Account, environment: Environment, recipe: Recipe
) -> Report:
    """What is there stands."""
    receipt = read_receipt(old) if old.owner == "ours" else None
    how = f"{receipt.outcome}" if receipt else f"foreign, installed by {old.owner}"
    line = f"already, {recipe.distribution} {old.version} ({how})"
    entry = Entry.from_json(receipt.entry, where=old.dist_info) if receipt else None
    account.chosen = entry
    error = requirement_error(recipe, entry.ref if entry else "*", environment)
    if error is not None:
        account.fail("already", error)
        line = str(error)
    return account.close("already", line, error=error, foreign=receipt is None)


def try_outcomes(situation: Situation) -> Report:
    """Best first, down to `--at-least`; the first that comes to be is the outcome."""
    account, request = situation.account, situation.request
    lowest = AT_LEAST.index(request.at_least)
    wanted = [outcome for outcome in OUTCOMES if AT_LEAST.index(outcome.name) >= lowest]
    for outcome in wanted:
        try:
            with account.step(outcome.name):
                entry = outcome.attempt(situation)
        except STEPS_DOWN as error:
            account.fail(outcome.name, error)
            continue
        return close_installed(outcome.name, entry, situation)
    causes = "; ".join(f"{attempt.cause}: {attempt.detail}" for attempt in account.attempts)
    return account.close("none", f"none ({causes})", dry_run=request.dry_run)


def close_installed(outcome: str, entry: Entry, situation: Situation) -> Report:
    """It is in place; a missing requirement is a finding of its own, with the pip line."""
    account, environment = situation.account, situation.environment
    dry_run = situation.request.dry_run
    chosen_by = "" if environment.devices.gpus else ": chosen by torch alone"
    line = (
        f"{outcome}, {'would install ' if dry_run else ''}{situation.recipe.distribution} "
        f"{entry.version} ({environment.gpu_text}{chosen_by})"
    )
    error = requirement_error(situation.recipe, entry.ref, environment)
    if error is not None:
        account.fail(outcome, error)
        account.find(line)
        line = str(error)
    return account.close(outcome, line, error=error, dry_run=dry_run)


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
        f"{recipe.distribution} is installed but {names} is missing: "
        f"{environment.interpreter.executable} -m pip install {wanted}",
        breaks_import=any(requirement.needed_for_import for requirement in missing),
    )
