"""The outcomes that can be tried, best first: one function each, one tuple."""

from __future__ import annotations

from typing import Callable, Optional, Tuple

from apex_installer.errors import (
    CheckError,
    CompileError,
    DeadlineError,
    DownloadError,
    NoWheelError,
    ToolkitError,
    TrustError,
)
from apex_installer.from_index import install_from_index
from apex_installer.from_source import NAME as COMPILED
from apex_installer.from_source import compile_and_install, is_asked
from apex_installer.model.entry import Entry
from apex_installer.model.report import AT_LEAST, Report
from apex_installer.python_only import NAME as PYTHON_ONLY
from apex_installer.python_only import install_python_only, is_carried
from apex_installer.requirements import requirement_error
from apex_installer.situation import Situation
from apex_installer.values import dataclass

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


@dataclass(frozen=True)
class Outcome:
    """One way to an Apex. `attempt` returns the entry that is in place, or raises."""

    name: str
    attempt: Callable[[Situation], Entry]
    is_offered: Callable[[Situation], bool] = lambda _: True
    """Whether it is asked for, and this copy of us can do it at all."""


OUTCOMES: Tuple[Outcome, ...] = (
    Outcome("wheel", install_from_index),
    Outcome(COMPILED, compile_and_install, is_asked),
    Outcome(PYTHON_ONLY, install_python_only, is_carried),
)
"""Best first."""


def try_outcomes(situation: Situation) -> Report:
    """Best first, down to `--at-least`; the first that comes to be is the outcome."""
    account, request = situation.account, situation.request
    lowest = AT_LEAST.index(request.at_least)
    wanted = [outcome for outcome in OUTCOMES if AT_LEAST.index(outcome.name) >= lowest]
    for outcome in (outcome for outcome in wanted if outcome.is_offered(situation)):
        try:
            with account.step(outcome.name):
                entry = outcome.attempt(situation)
        except STEPS_DOWN as error:
            account.fail(outcome.name, error)
            continue
        return close_installed(outcome.name, entry, situation)
    account.find(want(situation))
    return account.close("none", f"none ({account.causes})", dry_run=request.dry_run)


def want(situation: Situation) -> Optional[str]:
    """On a miss, where to ask for the wheel: the farm that packed this copy, if it said so."""
    from apex_installer import data  # noqa: PLC0415 - only a miss pays for it
    from apex_installer.want import want_line  # noqa: PLC0415 - the same

    if not situation.request.index_url:
        return None
    return want_line(
        data.read("defaults.json"),
        situation.environment,
        situation.modules,
        situation.account.attempts,
    )


def close_installed(outcome: str, entry: Entry, situation: Situation) -> Report:
    """It is in place; a missing requirement is a finding of its own, with the pip line."""
    account, environment = situation.account, situation.environment
    account.chosen, dry_run = entry, situation.request.dry_run
    chosen_by = "" if environment.devices.gpus else ": chosen by torch alone"
    what = f"{situation.recipe.distribution} {entry.version}"
    line = (
        f"{outcome}, {'would install ' if dry_run else ''}{what} "
        f"({environment.gpu_text}{chosen_by})"
    )
    if outcome == PYTHON_ONLY:
        account.find(what)
        line = f"{outcome}, DEGRADED ({account.causes})"
    if outcome != OUTCOMES[0].name:
        account.find(want(situation))
    error = requirement_error(situation.recipe, entry.ref, environment)
    if error is not None:
        account.fail(outcome, error)
        account.find(line)
        line = str(error)
    return account.close(outcome, line, error=error, dry_run=dry_run)
