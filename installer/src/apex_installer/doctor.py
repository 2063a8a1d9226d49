"""The command `doctor`: what is there, what would be chosen, what is in the way."""

from __future__ import annotations

from typing import List, Mapping, NamedTuple, Optional, Tuple

import apex_installer
from apex_installer.account import Account
from apex_installer.deadline import Deadline
from apex_installer.describe import environment_lines
from apex_installer.doctor_compile import compile_lines
from apex_installer.errors import (
    CompileError,
    InstallError,
    NoTorchError,
    NoWheelError,
    TargetError,
)
from apex_installer.flow import decide_present, load_recipe, required_modules
from apex_installer.from_index import cell_of, index_url_of
from apex_installer.get.cache import Cache, find_cache
from apex_installer.get.http import Fetcher
from apex_installer.in_the_way import driver_obstacle, target_obstacle
from apex_installer.model.report import AT_LEAST, Report
from apex_installer.model.request import Request
from apex_installer.offer import read_offer, wishes_for
from apex_installer.outcomes import want
from apex_installer.pick import entry_architectures, pick
from apex_installer.present import Decision, Verdict
from apex_installer.put.installed import Installed, read_installed
from apex_installer.python_only import install_python_only, is_carried
from apex_installer.read.environment import read_environment
from apex_installer.requirements import ref_of, requirement_error
from apex_installer.situation import Situation
from apex_installer.values import replace


class Way(NamedTuple):
    """One outcome as it would go here."""

    outcome: str
    would: str
    """What it would bring; empty where it would not come to be."""
    lines: Tuple[str, ...]


def doctor(
    request: Request, *, environ: Mapping[str, str], account: Account
) -> Tuple[Report, Tuple[str, ...]]:
    """Changes nothing; the report, and lines for people. Exit code 0: an Apex would come to be."""
    head = f"apex-install {apex_installer.__version__}"
    recipe = load_recipe()
    modules = required_modules(recipe, request)
    try:
        environment = read_environment(request, environ=environ)
    except NoTorchError as error:
        account.fail("doctor", error)
        report = account.close("none", f"none ({error.cause}: {error})", error=error, dry_run=True)
        return report, (head, f"in the way: {error}")
    account.environment = environment
    old = read_installed(environment.target, recipe, environment.interpreter.path)
    decision = decide_present(old, environment, recipe, modules, request)
    location = find_cache(flag=request.cache_dir, environ=environ)
    lives = "outlives the pod" if location.outlives_pod else "goes with the pod"
    lines = [
        head,
        *environment_lines(environment),
        f"cache: {location.directory} ({location.why}; {lives})",
        _installed_line(old, decision, recipe.distribution),
    ]
    with Cache(location) as cache:
        situation = Situation(
            request=replace(request, dry_run=True),
            recipe=recipe,
            environment=environment,
            modules=modules,
            old=old,
            put_aside=decision.verdict is Verdict.PUT_ASIDE,
            deadline=Deadline(request.deadline),
            cache=cache,
            account=account,
        )
        ways = _ways(situation)
    lines += [line for way in ways for line in way.lines]
    obstacles = _obstacles(situation, decision)
    lines += [f"in the way: {line}" for line in obstacles]
    return _close(situation, decision, ways, lines)


def _close(
    situation: Situation, decision: Decision, ways: Tuple[Way, ...], lines: List[str]
) -> Tuple[Report, Tuple[str, ...]]:
    """The verdict: what stands, else the first way that leads to something."""
    account = situation.account
    if decision.verdict is Verdict.STANDS:
        line = "would choose: what is there, which stands"
        return account.close("already", line, dry_run=True), (*lines, line)
    leave = decision.why if decision.verdict is Verdict.LEAVE else ""
    blocked = leave or target_obstacle(situation.environment.target)
    if blocked:
        error = TargetError(blocked)
        account.fail("doctor", error)
        line = f"none ({error.cause}: {error})"
        return account.close("none", line, error=error, dry_run=True), tuple(lines)
    best = next((way for way in ways if way.would), None)
    asked = None if best and best.outcome == "wheel" else want(situation)
    lines += [asked] if asked else []
    line = f"would choose: {best.would if best else f'nothing ({account.causes})'}"
    report = account.close(best.outcome if best else "none", line, dry_run=True)
    return report, (*lines, line)


def _installed_line(old: Optional[Installed], decision: Decision, name: str) -> str:
    if old is None:
        return f"installed: no {name}"
    return f"installed: {name} {old.version} by {old.owner}: {decision.why or 'stands'}"


def _obstacles(situation: Situation, decision: Decision) -> List[str]:
    """What no outcome could get over, each with the command that mends it."""
    environment, account = situation.environment, situation.account
    ref = account.chosen.ref if account.chosen else ref_of(situation.old)
    missing = requirement_error(situation.recipe, ref, environment)
    found = [
        driver_obstacle(environment),
        target_obstacle(environment.target),
        decision.why if decision.verdict is Verdict.LEAVE else None,
        str(missing) if missing else None,
    ]
    return [line for line in found if line]


# -- the ways ------------------------------------------------------------------------------------


def _ways(situation: Situation) -> Tuple[Way, ...]:
    """Best first, down to `--at-least`."""
    lowest = AT_LEAST.index(situation.request.at_least)
    found = [_wheel_way(situation)]
    if lowest <= AT_LEAST.index("compiled"):
        found.append(_compiled_way(situation))
    if lowest == 0:
        found.append(_python_only_way(situation))
    return tuple(found)


def _wheel_way(situation: Situation) -> Way:
    account, environment = situation.account, situation.environment
    try:
        would, refused = _picked(situation)
    except InstallError as error:
        account.fail("wheel", error)
        return Way("wheel", "", (f"wheel: {error}",))
    if not would:
        cell = environment.cell
        account.fail("wheel", NoWheelError(f"no wheel for {cell.label if cell else 'no CUDA'}"))
    return Way("wheel", would, (*refused, f"wheel: {would or 'none fits'}"))


def _picked(situation: Situation) -> Tuple[str, Tuple[str, ...]]:
    request, environment = situation.request, situation.environment
    cell, index_url = cell_of(environment), index_url_of(request)
    with Fetcher(allow_http=request.allow_http, deadline=situation.deadline) as fetcher:
        offer = read_offer(index_url, cell, fetcher=fetcher, situation=situation)
    choice = pick(offer.entries, environment, wishes_for(offer, situation))
    situation.account.note_choice(choice)
    refused = tuple(f"refused: {refusal.file}: {refusal.reason}" for refusal in choice.refusals)
    best = choice.best
    if best is None:
        return "", refused
    code = entry_architectures(best) or "no GPU"
    gpu = best.tests.get("gpu", "untested")
    tested = "untested on a GPU" if gpu == "untested" else f"tested on {gpu}"
    return f"{best.file} ({best.size} bytes, code for {code}, {tested})", refused


def _compiled_way(situation: Situation) -> Way:
    if situation.request.compile_timeout <= 0:
        return Way("compiled", "", ("compile: left out, as --compile-timeout 0 asks",))
    would, lines = compile_lines(situation)
    if not would and lines:
        situation.account.fail("compiled", CompileError("; ".join(lines)))
    return Way("compiled", would, tuple(f"compile: {line}" for line in lines))


def _python_only_way(situation: Situation) -> Way:
    if not is_carried(situation):
        return Way("python-only", "", ("python-only: this apex-install carries no such wheel",))
    try:
        entry = install_python_only(situation)
    except InstallError as error:
        situation.account.fail("python-only", error)
        return Way("python-only", "", (f"python-only: {error}",))
    would = f"{entry.file}, python-only: slower stand-ins, better is tried at each start"
    return Way("python-only", would, (f"python-only: {entry.file} is carried",))
