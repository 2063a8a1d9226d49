"""The install, as a list of named steps: read, heal, already, outcomes, requirements, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Optional, Tuple

from apex_installer import data
from apex_installer.account import Account
from apex_installer.deadline import Deadline
from apex_installer.errors import (
    InstallError,
    TargetError,
    UsageError,
)
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.model.recipe import Recipe
from apex_installer.model.report import AT_LEAST, Report
from apex_installer.model.request import Request
from apex_installer.present import Decision, Present, Verdict, decide
from apex_installer.put.heal import heal
from apex_installer.put.installed import Installed, read_installed
from apex_installer.put.receipt import read_receipt, receipt_stands
from apex_installer.read.devices import parse_gpus
from apex_installer.read.environment import read_environment
from apex_installer.requirements import requirement_error
from apex_installer.values import asdict

if TYPE_CHECKING:
    from apex_installer.get.cache import Cache


def load_recipe() -> Recipe:
    """The recipe that this copy was packed with."""
    text = data.read("recipe.json")
    if text is None:
        raise InstallError("this apex-install was packed without a recipe")
    return Recipe.from_json(text)


def required_modules(recipe: Recipe, request: Request) -> Tuple[str, ...]:
    """What `--require` names; UsageError lists its faults and those of `--gpu` at once."""
    modules: Tuple[str, ...] = ()
    faults = []
    try:
        modules = recipe.modules_for(request.require)
    except UsageError as error:
        faults.append(str(error))
    try:
        if request.gpu is not None:
            parse_gpus(request.gpu)
    except UsageError as error:
        faults.append(str(error))
    if faults:
        raise UsageError("; ".join(faults))
    return modules


def install(request: Request, *, environ: Mapping[str, str], account: Account) -> Report:
    """Do it, or say with `--dry-run` what would be done. Raises only what is nobody's outcome."""
    recipe = load_recipe()
    modules = required_modules(recipe, request)
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
    # A pod that has its Apex already does not pay for what follows.
    from apex_installer.get.cache import Cache, find_cache  # noqa: PLC0415
    from apex_installer.outcomes import try_outcomes  # noqa: PLC0415
    from apex_installer.situation import Situation  # noqa: PLC0415

    location = find_cache(flag=request.cache_dir, environ=environ)
    account.cache = asdict(location)
    with Cache(location) as cache:
        report = try_outcomes(
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
        if not request.dry_run:
            _tidy(cache)
    return report


def _tidy(cache: Cache) -> None:
    """Once a day for all pods on a cache, when Apex is in place."""
    from apex_installer.get.litter import collect, is_due  # noqa: PLC0415 - never on `already`

    if is_due(cache):
        collect(cache)


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
        if receipt.outcome == AT_LEAST[0]:
            return (f"is {receipt.outcome}: better is tried at each start",)
        why = receipt_stands(receipt, environment=environment, modules=modules, installed=old)
        return (why,) if why else ()
    from apex_installer.check import (  # noqa: PLC0415 - only a foreign one is read
        find_module_files,
        module_faults,
    )

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
