"""Whether a compile would be possible here: the preflight alone, nothing is fetched or written."""

from __future__ import annotations

import os
import time
from typing import List, Optional, Tuple

from apex_installer.errors import InstallError
from apex_installer.model.entry import Entry
from apex_installer.situation import Situation


def compile_lines(situation: Situation) -> Tuple[str, Tuple[str, ...]]:
    """(what would be compiled, or nothing; what it would use, or all that is in the way)."""
    from apex_installer.compiling import preflight  # noqa: PLC0415 - doctor alone asks
    from apex_installer.means import find_means, plan_for  # noqa: PLC0415

    environment = situation.environment
    if environment.cell is None:
        return "", ("not for a torch without CUDA",)
    folder = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - its free space is asked, no more
    ends = time.monotonic() + situation.request.compile_timeout
    try:
        wanted = plan_for(situation.request, situation.recipe, environment, situation.modules)
        kept = _kept(wanted.made_of, situation)
        if kept is not None:
            return f"{kept.file}, compiled before", (f"done before: {kept.file} in the cache",)
        files = situation.cache.files()  # asked, never filled
        means = find_means(situation, files=files, folder=folder, ends=ends)
        plan, faults = preflight(wanted, means, environment)
    except InstallError as error:
        return "", (str(error),)
    faults = (*faults, *_source_faults(situation))
    if faults:
        return "", faults
    toolkit = f"nvcc {means.there.version} ({means.there.how})" if means.there else ""
    toolkit = toolkit or f"{plan.fetched / 1e6:.0f} MB of CUDA {plan.cuda} to fetch"
    line = (
        f"{', '.join(wanted.modules)} for {wanted.architectures.text}: "
        f"{plan.cpu_seconds:.0f} CPU-seconds on {plan.width} cores, {toolkit}"
    )
    return f"to compile {line}", (f"possible: {line}",)


def _kept(commit: str, situation: Situation) -> Optional[Entry]:
    """The best result of an earlier compile that the cache holds by its name; none is hashed."""
    from apex_installer.get.results import kept_results  # noqa: PLC0415 - doctor alone asks
    from apex_installer.pick import Wishes, pick  # noqa: PLC0415 - the same

    entries = [one for one in kept_results(situation.cache) if one.ref == commit]
    wishes = Wishes(modules=situation.modules, at_hand=situation.cache.held())
    return pick(entries, situation.environment, wishes).best


def _source_faults(situation: Situation) -> List[str]:
    """Where the source would come from; whether the index has it is not asked."""
    import shutil  # noqa: PLC0415 - doctor alone asks

    request = situation.request
    if request.source or request.index_url:
        return []
    if request.offline or not situation.recipe.raw.get("git_url"):
        return ["no source: name a checkout with --source DIR"]
    if not shutil.which("git"):
        return ["no git: apt-get install git, or name a checkout with --source DIR"]
    return []
