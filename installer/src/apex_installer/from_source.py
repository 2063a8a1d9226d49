"""The outcome `compiled`: what is required, for the visible GPUs, by the toolkit that is here.

The compile has a budget of its own, --compile-timeout. Its result goes through the same checks and
the same swap as a wheel of the index, and is kept in the cache under its key.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Iterator

from apex_installer.check import require_symbols
from apex_installer.errors import CompileError, DownloadError
from apex_installer.get.results import find_result, keep_result
from apex_installer.make.plan_here import plan_compile
from apex_installer.model.entry import Entry
from apex_installer.put.install import install_wheel
from apex_installer.situation import Situation

NAME = "compiled"


def is_asked(situation: Situation) -> bool:
    """Not with `--compile-timeout 0`, and not for a torch without CUDA."""
    if not situation.recipe.raw.get("refs") or situation.environment.cell is None:
        return False
    return situation.request.compile_timeout > 0


def compile_and_install(situation: Situation) -> Entry:
    """Take the result of an earlier compile from the cache, else compile; then install."""
    from apex_installer.means import load_pins  # noqa: PLC0415 - only a miss pays for it

    pins = load_pins(situation.request)
    wanted = plan_compile(situation.recipe, situation.environment, situation.modules, pins.raw)
    kept = find_result(situation.cache, wanted.key)
    if kept is not None:
        situation.account.find(f"compiled before: {kept[1].file} from the cache")
        _put(*kept, situation)
        return kept[1]
    if situation.request.dry_run:
        raise CompileError(f"would compile {wanted.version}, which a dry run does not")
    from apex_installer.compiling import compile_wheel  # noqa: PLC0415 - only a miss pays for it
    from apex_installer.make.process import signals_as_exceptions  # noqa: PLC0415

    ends = time.monotonic() + situation.request.compile_timeout
    with signals_as_exceptions(), _scratch() as folder:
        path, entry = compile_wheel(wanted, situation, folder=folder, ends=ends)
        path = _keep(path, entry, situation)
        _put(path, entry, situation)
    return entry


def _keep(path: str, entry: Entry, situation: Situation) -> str:
    """Into the cache, for the next pod; a cache that takes nothing is survived."""
    try:
        return keep_result(situation.cache, path, entry)
    except (OSError, DownloadError) as error:
        situation.account.find(f"cache: the compiled wheel was not kept: {error}")
        return path


def _put(path: str, entry: Entry, situation: Situation) -> None:
    account, environment = situation.account, situation.environment
    with account.step("put"):
        installed = install_wheel(
            path,
            entry=entry,
            environment=environment,
            recipe=situation.recipe,
            old=situation.old,
            put_aside=situation.put_aside,
            outcome=NAME,
            check=lambda staged: require_symbols(staged, environment),
        )
    account.bytes["installed"] += installed.size


@contextmanager
def _scratch() -> Iterator[str]:
    """A private folder on local disk, gone at the end."""
    import shutil  # noqa: PLC0415 - a compile pays for it gladly
    import tempfile  # noqa: PLC0415

    try:
        folder = tempfile.mkdtemp(prefix="apex-compile-")
    except OSError as error:
        raise CompileError(f"no temporary directory to compile in: {error}; set TMPDIR") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
