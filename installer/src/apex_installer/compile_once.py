"""One compile for all pods on a volume: under a lease, not again so soon where it failed.

The lease saves work and no more: without one, on a volume that is full, read-only or gone, the pod
compiles for itself and installs what it made.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from typing import Iterator, Optional, Tuple

from apex_installer.compiling import compile_wheel
from apex_installer.errors import CompileError, DeadlineError, DownloadError
from apex_installer.get.failures import (
    describe,
    failure_path,
    is_too_early,
    keep_failure,
    one_more,
    read_failure,
)
from apex_installer.get.lease import Holder, Lease, take_lease
from apex_installer.get.results import find_result, keep_result
from apex_installer.get.whole import remove
from apex_installer.make.plan_here import Wanted
from apex_installer.model.entry import Entry
from apex_installer.situation import Situation

LEASES = "leases"
COSTLY_SECONDS = 1.0
"""What failed sooner (a wrong --source, no compiler) may fail again at the next start."""


def compile_once(
    wanted: Wanted, situation: Situation, *, folder: str, ends: float
) -> Tuple[str, Entry]:
    """(path of a wheel in the cache or in `folder`, its entry), from this pod or another one.

    `ends` is a time of `time.monotonic`, for waiting and compiling together. CompileError and
    DeadlineError as of `compile_wheel`, and where the same compile failed not long ago.
    """
    lease, waited = _lease(wanted, situation, ends=ends)
    try:
        kept = find_result(situation.cache, wanted.key)
        if kept is not None:
            situation.account.find(f"compiled by another pod: {kept[1].file} from the cache")
            return kept
        failures = failure_path(situation.cache, wanted.key)
        _check_failures(failures, situation)
        try:
            path, entry = compile_wheel(wanted, situation, folder=folder, ends=ends)
        except (CompileError, DeadlineError) as error:
            # Who had waited had less time than the next one will have.
            if failures and not (waited and isinstance(error, DeadlineError)):
                _note_failure(failures, error, situation)
            raise
        if failures:
            remove(failures)
        return _keep(path, entry, situation)
    finally:
        if lease is not None:
            lease.close()


def _lease(wanted: Wanted, situation: Situation, *, ends: float) -> Tuple[Optional[Lease], bool]:
    """(the lease if there is one, whether another pod was waited for)."""
    account, cache = situation.account, situation.cache
    place = cache.place(LEASES)
    waited = []

    def say(holder: Holder) -> None:
        waited.append(holder)
        account.announce(
            f"another pod ({holder.shown}) compiles the same: waiting for its result, "
            f"{max(ends - time.monotonic(), 0):.0f} s at most; --compile-timeout 0 leaves it out"
        )

    if place is None:
        return None, False
    try:
        with account.step("wait"):
            lease = take_lease(
                place,
                wanted.key,
                is_done=lambda: find_result(cache, wanted.key) is not None,
                ends=ends,
                on_wait=say,
            )
    except OSError as error:
        account.find(f"cache: no lease in {place}: {error.strerror or error}; compiled without")
        return None, bool(waited)
    return lease, bool(waited)


def _check_failures(path: Optional[str], situation: Situation) -> None:
    failure = read_failure(path) if path else None
    budget = situation.request.compile_timeout
    if path and failure and is_too_early(failure, now=time.time(), budget=budget):
        raise CompileError(describe(failure, path=path))


def _note_failure(path: str, error: CompileError | DeadlineError, situation: Situation) -> None:
    if situation.account.seconds.get("build", 0.0) < COSTLY_SECONDS:
        return
    failure = one_more(
        read_failure(path),
        at=time.time(),
        budget=situation.request.compile_timeout,
        error=error,
    )
    with suppress(OSError):  # the next start tries again, as it would without a cache
        keep_failure(path, failure)


def _keep(path: str, entry: Entry, situation: Situation) -> Tuple[str, Entry]:
    """Into the cache, for the next pod; a cache that takes nothing is survived."""
    account, cache = situation.account, situation.cache
    try:
        kept = keep_result(cache, path, entry)
    except (OSError, DownloadError) as error:
        account.find(f"cache: the compiled wheel was not kept: {error}")
        return path, entry
    if cache.is_temporary:
        account.find(cache.finding)
    return kept


@contextmanager
def scratch() -> Iterator[str]:
    """A private folder on local disk, gone at the end."""
    try:
        folder = tempfile.mkdtemp(prefix="apex-compile-")
    except OSError as error:
        raise CompileError(f"no temporary directory to compile in: {error}; set TMPDIR") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
