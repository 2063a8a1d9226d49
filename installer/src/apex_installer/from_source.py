"""The outcome `compiled`: what is required, for the visible GPUs, by the toolkit that is here.

What any pod on this cache has compiled and what fits here is taken before anything is compiled. A
compile has a budget of its own, --compile-timeout. Its result goes through the same checks and the
same swap as a wheel of the index, and is kept in the cache under its key.
"""

from __future__ import annotations

import time
from typing import Optional

from apex_installer.check import require_symbols
from apex_installer.errors import CheckError, CompileError, TrustError
from apex_installer.get.results import forget_result, kept_results, result_path
from apex_installer.make.plan_here import Wanted
from apex_installer.model.entry import Entry
from apex_installer.pick import Wishes, pick
from apex_installer.placing import place_wheel
from apex_installer.situation import Situation
from apex_installer.values import replace

NAME = "compiled"


def is_asked(situation: Situation) -> bool:
    """Not with `--compile-timeout 0`, and not for a torch without CUDA."""
    if not situation.recipe.raw.get("refs") or situation.environment.cell is None:
        return False
    return situation.request.compile_timeout > 0


def compile_and_install(situation: Situation) -> Entry:
    """Take the result of an earlier compile from the cache, else compile; then install."""
    from apex_installer.means import plan_for  # noqa: PLC0415 - only a miss pays for it

    request, environment = situation.request, situation.environment
    wanted = plan_for(request, situation.recipe, environment, situation.modules)
    entry = _take_kept(wanted, situation) or _compile(wanted, situation)
    if request.background and not request.dry_run:
        from apex_installer.rest import start_rest  # noqa: PLC0415 - only who asks for it

        start_rest(entry, situation)
    return entry


def _take_kept(wanted: Wanted, situation: Situation) -> Optional[Entry]:
    """The best kept one that fits and holds, of whatever key; None where there is none.

    CheckError where what this very compile made has failed here: it would make the same again.
    """
    account = situation.account
    entries = [one for one in kept_results(situation.cache) if one.ref == wanted.made_of]
    wishes = Wishes(modules=situation.modules)
    while True:
        best = pick(entries, situation.environment, wishes).best
        if best is None:
            return None
        path = situation.cache.wheel(best.sha256)
        wishes = replace(wishes, struck_out=(*wishes.struck_out, best.sha256))
        if path is None:
            continue
        account.find(f"compiled before: {best.file} from the cache")
        if situation.request.dry_run:
            return best
        try:
            _put(path, best, situation)
        except TrustError as error:
            account.fail(NAME, error)
            forget_result(situation.cache, best.key)
        except CheckError as error:
            if best.key == wanted.key:
                kept = result_path(situation.cache, best.key)
                raise CheckError(f"{error}; to have it compiled anew: rm {kept}") from error
            account.fail(NAME, error)
        else:
            return best


def _compile(wanted: Wanted, situation: Situation) -> Entry:
    if situation.request.dry_run:
        raise CompileError(f"would compile {wanted.version}, which a dry run does not")
    from apex_installer.compile_once import compile_once, scratch  # noqa: PLC0415 - only a miss
    from apex_installer.make.process import signals_as_exceptions  # noqa: PLC0415

    ends = time.monotonic() + situation.request.compile_timeout
    with signals_as_exceptions(), scratch() as folder:
        path, entry = compile_once(wanted, situation, folder=folder, ends=ends)
        _put(path, entry, situation)
    return entry


def _put(path: str, entry: Entry, situation: Situation) -> None:
    environment = situation.environment
    place_wheel(
        path,
        entry,
        situation,
        outcome=NAME,
        check=lambda staged: require_symbols(staged, environment),
    )
