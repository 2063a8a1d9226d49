"""`prefetch`: fill a cache for pods that will have no network: wheel, source, toolkit.

On a pod of their kind, or anywhere that has their interpreter and torch, with `--gpu`. Nothing is
installed and nothing is compiled.
"""

from __future__ import annotations

import tempfile
import time
from typing import Dict, Mapping

from apex_installer.account import Account
from apex_installer.deadline import Deadline
from apex_installer.errors import (
    EXIT_NOTHING_GOOD_ENOUGH,
    EXIT_USABLE,
    CompileError,
    DownloadError,
    ToolkitError,
)
from apex_installer.flow import load_recipe, required_modules
from apex_installer.from_index import fetch_best
from apex_installer.get.cache import Cache, find_cache
from apex_installer.get.sources import find_archive
from apex_installer.inputs import requirement_file
from apex_installer.make.plan_here import plan_compile
from apex_installer.make.provide import fetch_parts, headers_nowhere, whole_wheel
from apex_installer.means import Means, find_means, load_pins
from apex_installer.model.report import Report
from apex_installer.model.request import Request
from apex_installer.outcomes import STEPS_DOWN
from apex_installer.read.environment import read_environment
from apex_installer.situation import Situation


def prefetch(request: Request, *, environ: Mapping[str, str], account: Account) -> Report:
    """Fetch all that the outcomes `wheel` and `compiled` would; usable if either is complete."""
    recipe = load_recipe()
    modules = required_modules(recipe, request)
    with account.step("read"):
        environment = read_environment(request, environ=environ)
    account.environment = environment
    with Cache(find_cache(flag=request.cache_dir, environ=environ)) as cache:
        situation = Situation(
            request=request,
            recipe=recipe,
            environment=environment,
            modules=modules,
            old=None,
            put_aside=False,
            deadline=Deadline(request.deadline),
            cache=cache,
            account=account,
        )
        got = _fetch_each(situation)
        account.find(cache.finding)
    where = cache.location.directory
    if not got:
        return account.close("none", f"none ({account.causes})", exit_code=EXIT_NOTHING_GOOD_ENOUGH)
    for line in got.values():
        account.find(line)
    line = f"prefetched into {where}: {'; '.join(got.values())}"
    missed = f" (not: {account.causes})" if account.attempts else ""
    return account.close("none", f"{line}{missed}", exit_code=EXIT_USABLE)


def _fetch_each(situation: Situation) -> Dict[str, str]:
    """Outcome -> what is in the cache for it now; an outcome that cannot be is an attempt."""
    got: Dict[str, str] = {}
    account = situation.account
    for outcome, fetch in (("wheel", _fetch_wheel), ("compiled", _fetch_inputs)):
        if outcome == "compiled" and situation.request.compile_timeout <= 0:
            continue
        try:
            with account.step(outcome):
                line = fetch(situation)
            if situation.cache.is_temporary:
                raise DownloadError(f"cache: {situation.cache.location.directory} takes nothing")
            got[outcome] = line
        except STEPS_DOWN as error:
            account.fail(outcome, error)
    return got


def _fetch_wheel(situation: Situation) -> str:
    return fetch_best(situation).file


def _fetch_inputs(situation: Situation) -> str:
    """Source, build requirements and toolkit, all of them or an error."""
    request, account = situation.request, situation.account
    pins = load_pins(request)
    wanted = plan_compile(situation.recipe, situation.environment, situation.modules, pins.raw)
    with situation.cache.files() as files, tempfile.TemporaryDirectory() as folder:
        ends = time.monotonic() + request.compile_timeout
        means = find_means(situation, files=files, folder=folder, ends=ends)
        try:
            commit = str(wanted.ref["commit"])
            source = find_archive(
                commit, index_url=request.index_url, cache=files, supply=means.supply
            )
            requirements = [
                requirement_file(one, means, request) for one in pins.build_requirements
            ]
            means.supply.get_all(requirements)
            toolkit = _fetch_toolkit(means, situation)
        finally:
            account.bytes["downloaded"] += means.supply.downloaded
        if files.is_temporary:
            raise DownloadError(f"cache: {situation.cache.location.directory} takes nothing")
    if source is None:
        raise CompileError(
            f"the index has no source archive of {wanted.ref['name']}: ask its keeper for it "
            "(wheelbuild sources), and name a checkout on the pods by --source"
        )
    return f"source of {wanted.ref['name']}, {toolkit}"


def _fetch_toolkit(means: Means, situation: Situation) -> str:
    """Every part, whatever toolkit is here: the pods that read the cache may have none."""
    pinned = means.pinned
    if pinned is None:
        cuda = situation.environment.torch.cuda
        raise ToolkitError(f"no toolkit of {cuda} is pinned to be fetched")
    mirror = situation.request.cuda_mirror
    fetch_parts(pinned, supply=means.supply, mirror=mirror)
    lacking = headers_nowhere(pinned, situation.environment.torch.directory)
    means.supply.get_all([whole_wheel(one, supply=means.supply) for one in lacking])
    return f"CUDA {pinned.release} ({pinned.size / 1e6:.1f} MB)"
