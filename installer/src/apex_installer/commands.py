"""The commands beside `install`: check, remove, doctor. Each returns a report."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional, Tuple

from apex_installer import data
from apex_installer.account import Account
from apex_installer.check import find_module_files, module_faults
from apex_installer.deadline import Deadline
from apex_installer.errors import EXIT_USABLE, CheckError, TrustError
from apex_installer.flow import load_recipe, required_modules
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.model.report import Report
from apex_installer.model.request import Request
from apex_installer.put.installed import Installed, read_installed
from apex_installer.put.intact import record_faults
from apex_installer.put.receipt import read_receipt
from apex_installer.put.remove import remove as remove_installed
from apex_installer.read.environment import read_environment
from apex_installer.requirements import ref_of, requirement_error
from apex_installer.run_check import run_check, run_faults
from apex_installer.values import replace


def check(request: Request, *, environ: Mapping[str, str], account: Account, run: bool) -> Report:
    """Prove an installed Apex: RECORD, symbols, machine code; `run` constructs and runs too."""
    recipe = load_recipe()
    modules = required_modules(recipe, request)
    with account.step("read"):
        environment = read_environment(request, environ=environ)
        account.environment = environment
        installed = read_installed(environment.target, recipe, environment.interpreter.path)
    if installed is None:
        raise CheckError(f"no {recipe.distribution} in {environment.target}: run apex-install")
    with account.step("record"):
        faults = list(record_faults(installed))
    entry = _entry_of(installed)
    account.chosen = entry
    standins = _standins_of(entry)
    if standins:
        account.find(f"stand-ins by torch's own operators: {', '.join(standins)}")
        faults += [
            f"its stand-ins do not hold all that {word} is"
            for word in recipe.lacking_in_standins(request.require)
        ]
    with account.step("symbols"):
        files = find_module_files(
            (installed.directory,),
            [module for module in modules if module not in standins],
            suffix=environment.interpreter.extension_suffix,
        )
        faults += module_faults(files, environment)
    missing = requirement_error(recipe, ref_of(installed), environment)
    if missing is not None and missing.breaks_import:
        faults.append(str(missing))
    elif missing is not None:
        account.find(str(missing))
    if run and not faults:
        with account.step("run"):
            faults += _run_all(modules, environment, account, request)
    if faults:
        raise CheckError(f"{recipe.distribution} {installed.version}: {'; '.join(faults)}")
    return account.close("already", f"checked, {recipe.distribution} {installed.version} is good")


def _entry_of(installed: Installed) -> Optional[Entry]:
    """What was installed, for whoever asks which wheel was checked; None for a foreign one.

    Without its address, which may hold what is nobody else's to know: a report is passed on.
    """
    receipt = read_receipt(installed)
    try:
        found = Entry.from_json(receipt.entry, where=installed.dist_info) if receipt else None
    except TrustError:
        return None
    return replace(found, url="") if found else None


def _standins_of(entry: Optional[Entry]) -> Tuple[str, ...]:
    """Modules that are Python files here, with no symbol and no machine code to check."""
    modules = entry.modules if entry else ()
    return tuple(module.name for module in modules if module.file.endswith(".py"))


def _run_all(
    modules: Tuple[str, ...], environment: Environment, account: Account, request: Request
) -> Tuple[str, ...]:
    scripts: Dict[str, str] = json.loads(data.read("checks.json") or "{}")
    deadline = Deadline(request.deadline)
    results: List[Mapping[str, Any]] = []
    for module in modules:
        if module not in scripts:
            account.find(f"{module}: the recipe has no check to run")
            continue
        result = run_check(
            module, scripts[module], environment=environment, seconds=deadline.remaining()
        )
        if "skipped" in result:
            account.find(f"{module}: not run: {result['skipped']}")
        else:
            account.find(f"{module}: {result['passed']} checks passed")
        results.append(result)
    account.evidence = tuple(results)
    return run_faults(tuple(results))


def remove(request: Request, *, environ: Mapping[str, str], account: Account) -> Report:
    """Take our Apex away and bring back what it had put aside."""
    recipe = load_recipe()
    with account.step("read"):
        environment = read_environment(request, environ=environ)
        account.environment = environment
    with account.step("remove"):
        line = remove_installed(environment.target, recipe=recipe)
    return account.close("none", line, exit_code=EXIT_USABLE)


def doctor(
    request: Request, subject: Optional[str], *, environ: Mapping[str, str], account: Account
) -> Tuple[Report, Tuple[str, ...]]:
    """Of this pod; with a subject, of that module, package, wheel or address."""
    if subject is None:
        from apex_installer.doctor import doctor as of_pod  # noqa: PLC0415 - the other command's

        return of_pod(request, environ=environ, account=account)
    from apex_installer.examine.command import examine  # noqa: PLC0415 - the same

    recipe = load_recipe()
    return examine(
        subject,
        request,
        environ=environ,
        account=account,
        recipe=recipe,
        required=required_modules(recipe, request),
    )
