"""The commands beside `install`: check, doctor, remove. Each returns a report."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional, Tuple

import apex_installer
from apex_installer import data
from apex_installer.account import Account
from apex_installer.check import find_module_files, module_faults
from apex_installer.deadline import Deadline
from apex_installer.errors import EXIT_USABLE, CheckError, InstallError, TargetError
from apex_installer.flow import decide_present, load_recipe, required_modules
from apex_installer.from_index import cell_of, index_url_of
from apex_installer.get.documents import fetch_document
from apex_installer.get.http import Fetcher
from apex_installer.model.environment import Environment
from apex_installer.model.report import Report
from apex_installer.model.request import Request
from apex_installer.pick import Wishes, entry_architectures, pick
from apex_installer.present import Verdict
from apex_installer.put.installed import Installed, read_installed
from apex_installer.put.intact import record_faults
from apex_installer.put.receipt import read_receipt
from apex_installer.put.remove import remove as remove_installed
from apex_installer.read.environment import read_environment
from apex_installer.requirements import requirement_error
from apex_installer.run_check import run_check, run_faults


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
    standins = _standins_of(installed)
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
    missing = requirement_error(recipe, _ref_of(installed), environment)
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


def _ref_of(installed: Optional[Installed]) -> str:
    """The commit that an Apex of ours is of; `*` where nothing says so."""
    receipt = read_receipt(installed) if installed is not None else None
    return str(receipt.entry.get("ref", "*")) if receipt else "*"


def _standins_of(installed: Installed) -> Tuple[str, ...]:
    """Modules that are Python files here, with no symbol and no machine code to check."""
    receipt = read_receipt(installed)
    modules = receipt.entry.get("modules", ()) if receipt else ()
    return tuple(module["name"] for module in modules if module["file"].endswith(".py"))


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
    request: Request, *, environ: Mapping[str, str], account: Account
) -> Tuple[Report, Tuple[str, ...]]:
    """What is there, what would be chosen, what is in the way and what to do; changes nothing."""
    lines: List[str] = [f"apex-install {apex_installer.__version__}"]
    recipe = load_recipe()
    modules = required_modules(recipe, request)
    environment = read_environment(request, environ=environ)
    account.environment = environment
    lines += _environment_lines(environment)
    installed = read_installed(environment.target, recipe, environment.interpreter.path)
    decision = decide_present(installed, environment, recipe, modules, request)
    lines.append(_installed_line(installed, decision.why, recipe.distribution))
    try:
        of_index = _index_lines(request, environment, modules, account)
    except InstallError as error:
        account.fail("wheel", error)
        of_index = [f"in the way: {error}"]
    ref = account.chosen.ref if account.chosen else _ref_of(installed)
    missing = requirement_error(recipe, ref, environment)
    lines += [*([str(missing)] if missing else []), *of_index]
    if decision.verdict is Verdict.LEAVE:
        raise TargetError(decision.why)
    usable = account.chosen is not None or decision.verdict is Verdict.STANDS
    report = account.close("wheel" if usable else "none", lines[-1], dry_run=True)
    return report, tuple(lines)


def _environment_lines(environment: Environment) -> List[str]:
    interpreter, torch, devices = environment.interpreter, environment.torch, environment.devices
    abi = {True: "new C++ ABI", False: "old C++ ABI", None: "C++ ABI not known"}[torch.cxx11_abi]
    driver = f"driver {devices.driver or 'not known'}"
    if devices.driver_cuda:
        driver += f", runs CUDA up to {devices.driver_cuda[0]}.{devices.driver_cuda[1]}"
    gpus = ", ".join(gpu.text for gpu in devices.gpus)
    gpus = f"{gpus} (from {devices.source})" if gpus else "none visible: chosen by torch alone"
    return [
        f"python: {interpreter.executable} ({interpreter.version}, {interpreter.tag})",
        f"torch: {torch.version}, CUDA {torch.cuda or 'none'}, {abi}, in {torch.directory}",
        f"GPUs: {gpus}; {driver}",
        *([f"note: {devices.note}"] if devices.note else []),
        f"target: {environment.target}",
    ]


def _installed_line(installed: Optional[Installed], why: str, name: str) -> str:
    if installed is None:
        return f"installed: no {name}"
    return f"installed: {name} {installed.version} by {installed.owner}: {why or 'stands'}"


def _index_lines(
    request: Request, environment: Environment, modules: Tuple[str, ...], account: Account
) -> List[str]:
    cell, index_url = cell_of(environment), index_url_of(request)
    with Fetcher(allow_http=request.allow_http, deadline=Deadline(request.deadline)) as fetcher:
        document = fetch_document(
            index_url, cell, fetcher=fetcher, installer=apex_installer.__version__
        )
    choice = pick(document.entries, environment, Wishes(modules=modules))
    account.note_choice(choice)
    refused = [f"refused: {refusal.file}: {refusal.reason}" for refusal in choice.refusals]
    if choice.best is None:
        return [*refused, f"would choose: nothing for {cell.label}"]
    best = choice.best
    code = entry_architectures(best) or "no GPU"
    facts = f"{best.size} bytes, code for {code}, {_evidence(best.tests)}"
    return [*refused, f"would choose: {best.file} ({facts})"]


def _evidence(tests: Mapping[str, Any]) -> str:
    gpu = tests.get("gpu", "untested")
    return "untested on a GPU" if gpu == "untested" else f"tested on {gpu}"
