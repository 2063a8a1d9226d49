"""One compile on a pod: its source, the announcement, the build, and its entry."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Tuple

from apex_installer.errors import CompileError
from apex_installer.make.plan_here import Wanted
from apex_installer.model.entry import Entry
from apex_installer.situation import Situation

if TYPE_CHECKING:
    from apex_installer.make.build import Built

NICE = 10
"""Added to the compilers' niceness: the pod has other things to do."""
LOG = "apex-compile.log"


def compile_wheel(
    wanted: Wanted, situation: Situation, *, folder: str, ends: float
) -> Tuple[str, Entry]:
    """(path of the wheel in `folder`, its entry); `ends` is a time of `time.monotonic`.

    ToolkitError, CompileError and DeadlineError say why not; no child process is left.
    """
    from apex_installer.make.build import build_wheel  # noqa: PLC0415 - only a miss pays for it
    from apex_installer.make.request import BuildRequest  # noqa: PLC0415

    account, environment = situation.account, situation.environment
    log = os.path.join(os.environ.get("TMPDIR") or "/tmp", LOG)  # noqa: S108 - a log, for people
    with account.step("source"):
        source = _find_source(wanted, situation, folder=folder, ends=ends)
    account.announce(_announcement(wanted, situation, log=log))
    request = BuildRequest(
        source=source,
        interpreter=environment.interpreter.executable,
        distribution=situation.recipe.distribution,
        package=situation.recipe.package,
        version=wanted.version,
        cell=wanted.cell.label,
        torch=wanted.torch,
        modules=wanted.modules,
        architectures=wanted.architectures.text,
        work=os.path.join(folder, "work"),
        argv=wanted.argv,
        environment=wanted.environment,
        requires=wanted.requires,
        cpu_seconds=wanted.cpu_seconds,
        time_limit=max(ends - time.monotonic(), 1.0),
        nice=NICE,
        strip=True,
    )
    with account.step("build"):
        built = build_wheel(request, out=os.path.join(folder, "out"), log=log)
    return built.wheel, entry_of(built, wanted, situation)


def _announcement(wanted: Wanted, situation: Situation, *, log: str) -> str:
    from apex_installer.make.width import choose_width, read_limits  # noqa: PLC0415

    width = choose_width(read_limits()).jobs
    seconds = sum(wanted.cpu_seconds.values()) * len(wanted.architectures.machine_code)
    return (
        f"no wheel fits: compiling {', '.join(wanted.modules)} for {wanted.architectures.text}, "
        f"{seconds:.0f} CPU-seconds on {width} cores, {situation.request.compile_timeout:.0f} s at "
        f"most; --compile-timeout 0 leaves it out; log: {log}"
    )


def _find_source(wanted: Wanted, situation: Situation, *, folder: str, ends: float) -> str:
    """The checkout that was named, else the ref's commit by git."""
    given, recipe = situation.request.source, situation.recipe
    if given:
        return os.path.abspath(given)
    url, commit = recipe.raw.get("git_url"), wanted.ref["commit"]
    if not url or situation.request.offline:
        raise CompileError(f"no source of {wanted.ref['name']}: name a checkout with --source DIR")
    from apex_installer.make.source import fetch_commit  # noqa: PLC0415 - only a miss pays for it

    return fetch_commit(url, commit, into=os.path.join(folder, "source"), ends_at=ends)


def entry_of(built: Built, wanted: Wanted, situation: Situation) -> Entry:
    """What an index would say of the wheel that was just built."""
    import hashlib  # noqa: PLC0415 - a compile pays for it gladly
    import zipfile  # noqa: PLC0415

    from apex_installer.read.modules import (  # noqa: PLC0415
        read_module,
        symbols_digest,
        version_floors,
    )

    torch, suffix = situation.environment.torch, situation.environment.interpreter.extension_suffix
    with open(built.wheel, "rb") as file:
        content = file.read()
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        metadata = archive.read(name)
    return Entry(
        file=os.path.basename(built.wheel),
        url="",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        uploaded="",
        cell=wanted.cell.label,
        torch=torch.version,
        torch_git=torch.git,
        cxx11_abi=bool(torch.cxx11_abi),
        key=wanted.key,
        distribution=situation.recipe.distribution,
        version=wanted.version,
        build_tag=0,
        suffix=wanted.suffix,
        ref=wanted.ref["commit"],
        modules=tuple(
            read_module(path, name=module, file=module.replace(".", "/") + suffix)
            for module, path in sorted(built.modules.items())
        ),
        floors=version_floors(built.modules),
        symbols_digest=symbols_digest(built.modules),
        requires=wanted.requires,
        tests={"gpu": "untested"},
    )
