"""One wheel into the target: verify, stage, check, swap. Nothing is visible before the swap."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from apex_installer import __version__
from apex_installer.errors import TargetError
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.model.recipe import Recipe
from apex_installer.put.installed import INSTALLER, OURS, RECEIPT, Installed, read_installed
from apex_installer.put.receipt import (
    Receipt,
    facts_of,
    read_receipt,
    stat_files,
    write_receipt,
)
from apex_installer.put.record import Row, digest_text, format_record
from apex_installer.put.recover import heal_locked
from apex_installer.put.swap import swap_in
from apex_installer.put.wheel import WheelContents, unpack, verify_wheel
from apex_installer.put.workspace import ASIDE, STAGE, Workspace, delete, target_error
from apex_installer.values import replace

if TYPE_CHECKING:
    from typing_extensions import TypeGuard

SPARE_BYTES = 4 << 20
"""Kept free on the target's disk beside the files: folders, block sizes, the journal."""

Check = Callable[[Sequence[str]], None]
"""Takes the paths of the staged modules; raises to refuse them."""


class _Plan(NamedTuple):
    """All that one install needs to know."""

    entry: Entry
    environment: Environment
    recipe: Recipe
    old: Optional[Installed]
    """In the target itself; None for one that lies elsewhere on `sys.path`."""
    put_aside: bool
    outcome: str
    check: Optional[Check]


def install_wheel(  # noqa: PLR0913 - all by name, and read once
    path: str,
    *,
    entry: Entry,
    environment: Environment,
    recipe: Recipe,
    old: Optional[Installed],
    put_aside: bool = False,
    outcome: str = "wheel",
    check: Optional[Check] = None,
) -> Installed:
    """Put the wheel at `path` into the environment's target, whole or not at all.

    `old` is what was found there before; `put_aside` keeps it for `remove` to bring back. What
    `check` raises, TrustError (its bytes) and TargetError (the target) leave everything as it was.
    Where another run has installed the same wheel meanwhile, that is the answer.
    """
    target = environment.target
    before = old if old and os.path.realpath(old.directory) == os.path.realpath(target) else None
    with verify_wheel(path, entry=entry, recipe=recipe) as contents:
        _check_room(target, contents.size)
        with Workspace(target) as workspace:
            heal_locked(workspace)
            now = read_installed(target, recipe, (target,))
            if _is_answer(now, before, entry):
                return now
            plan = _Plan(
                entry, environment, recipe, now, put_aside and now == before, outcome, check
            )
            notes = _stage_and_swap(contents, plan, workspace)
    installed = read_installed(target, recipe, (target,))
    if installed is None:
        raise TargetError(f"{target}: {recipe.package} was taken away by another program just now")
    return replace(installed, notes=notes)


def _is_answer(
    now: Optional[Installed], before: Optional[Installed], entry: Entry
) -> TypeGuard[Installed]:
    """Whether another run of ours was quicker with the same wheel.

    TargetError where somebody else has put theirs there since: that was not decided upon.
    """
    if now is None or (before and (now.dist_info, now.rows) == (before.dist_info, before.rows)):
        return False
    if now.owner != OURS:
        raise TargetError(
            f"{now.directory}: {now.package} was changed by another program just now; run again"
        )
    receipt = read_receipt(now)
    return receipt is not None and receipt.sha256 == entry.sha256


def _stage_and_swap(contents: WheelContents, plan: _Plan, workspace: Workspace) -> Tuple[str, ...]:
    target = plan.environment.target
    try:
        stage = workspace.make(STAGE)
    except OSError as error:
        raise target_error(target, error) from error
    try:
        aside = _aside_for(plan, workspace)
        _stage(contents, workspace.in_it(stage), plan, aside=aside)
        if plan.check:
            modules = [module.file for module in plan.entry.modules]
            plan.check([os.path.join(workspace.in_it(stage), file) for file in modules])
    except BaseException as error:
        with suppress(OSError):  # the next run sweeps it away
            delete(workspace.in_it(stage))
        if isinstance(error, OSError):
            raise target_error(target, error) from error
        raise
    return swap_in(
        stage,
        workspace=workspace,
        recipe=plan.recipe,
        what=f"{plan.entry.distribution} {plan.entry.version}",
        old=plan.old,
        aside=aside if plan.put_aside else "",
    )


def _aside_for(plan: _Plan, workspace: Workspace) -> str:
    """The folder of a foreign package: the one to come, or the one that our old receipt names."""
    if plan.put_aside and plan.old:
        return workspace.next_name(ASIDE)
    receipt = read_receipt(plan.old) if plan.old and plan.old.owner == OURS else None
    return receipt.aside if receipt else ""


def _stage(contents: WheelContents, stage: str, plan: _Plan, *, aside: str) -> None:
    """The wheel's files, and ours: INSTALLER, REQUESTED, direct_url.json, RECORD, the receipt."""
    mtime = int(time.time())  # whole seconds: image layers keep no more
    unpack(contents, stage, mtime=mtime)
    dist_info = contents.dist_info
    ours = {
        f"{dist_info}/INSTALLER": f"{INSTALLER}\n".encode(),
        f"{dist_info}/REQUESTED": b"",
        f"{dist_info}/direct_url.json": _direct_url(plan.entry, contents.path),
    }
    record, receipt = f"{dist_info}/RECORD", f"{dist_info}/{RECEIPT}"
    rows = [row for path, row in contents.rows.items() if path != record]
    rows += [Row(path, _digest(data), len(data)) for path, data in ours.items()]
    rows += [Row(receipt, "", None), Row(record, "", None)]
    ours[record] = format_record(rows).encode()
    for path, data in ours.items():
        _write(os.path.join(stage, path), data, mtime=mtime)
    listed = [row.path for row in rows if row.path != receipt]
    write_receipt(
        os.path.join(stage, dist_info),
        Receipt(
            outcome=plan.outcome,
            installer=__version__,
            key=plan.entry.key,
            sha256=plan.entry.sha256,
            entry={**plan.entry.to_json(), "url": _without_credentials(plan.entry.url)},
            facts=facts_of(plan.environment),
            files=stat_files(stage, listed),
            aside=aside,
        ),
    )


def _digest(data: bytes) -> str:
    import hashlib  # noqa: PLC0415 - loaded by then; `already` never comes here

    return digest_text(hashlib.sha256(data).digest())


def _write(path: str, data: bytes, *, mtime: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(path, flags, 0o644)
    try:
        os.fchmod(fd, 0o644)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.utime(fd, (mtime, mtime))
    finally:
        os.close(fd)


def _direct_url(entry: Entry, path: str) -> bytes:
    """PEP 610: where it came from, without credentials."""
    url = entry.url if re.match(r"^(https?|file)://", entry.url) else f"file://{path}"
    data: Dict[str, object] = {
        "url": _without_credentials(url),
        "archive_info": {
            "hash": f"sha256={entry.sha256}",
            "hashes": {"sha256": entry.sha256},
        },
    }
    return json.dumps(data, sort_keys=True).encode()


def _without_credentials(url: str) -> str:
    return re.sub(r"://[^/@]*@", "://", url)


def _check_room(target: str, size: int) -> None:
    """Before anything is written: the whole install beside the old one."""
    try:
        disk = os.statvfs(target)
    except OSError as error:
        raise target_error(target, error) from error
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < size + SPARE_BYTES:  # some network file systems count nothing
        raise TargetError(
            f"no disk: {target} has {free >> 20} MB free, the install needs "
            f"{(size + SPARE_BYTES) >> 20} MB; free some, or say --target DIR on another disk"
        )
