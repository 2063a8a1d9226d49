"""One compile on a pod: the preflight, source and toolkit, the build, and what it made.

Nothing is fetched before all that can be known to be missing is known to be there.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Dict, Tuple

from apex_installer.errors import ToolkitError
from apex_installer.inputs import find_requirements, find_source
from apex_installer.make.preflight import Machine, Plan, free_bytes, machine_faults, plan_faults
from apex_installer.make.provide import APT, complete, fetch_toolkit, parts_to_fetch
from apex_installer.make.toolkit import Toolkit, find_toolkit
from apex_installer.make.width import choose_width, read_limits
from apex_installer.means import FLAG, Means, find_means
from apex_installer.model.entry import Entry

if TYPE_CHECKING:
    from apex_installer.make.build import Built
    from apex_installer.make.plan_here import Wanted
    from apex_installer.model.environment import Environment
    from apex_installer.model.request import Request
    from apex_installer.situation import Situation

NICE = 10
"""Added to the compilers' niceness: the pod has other things to do."""


def compile_wheel(
    wanted: Wanted, situation: Situation, *, folder: str, ends: float
) -> Tuple[str, Entry]:
    """(path of the wheel in `folder`, its entry); `ends` is a time of `time.monotonic`.

    ToolkitError, CompileError, DownloadError, TrustError and DeadlineError say why not; no child
    process is left.
    """
    with situation.cache.files() as files:
        means = find_means(situation, files=files, folder=folder, ends=ends)
        return _compile(wanted, means, situation)


def _compile(wanted: Wanted, means: Means, situation: Situation) -> Tuple[str, Entry]:
    account = situation.account
    for line in means.refused:
        account.find(f"toolkit: {line}")
    with account.step("preflight"):
        _check_first(wanted, means, situation)
    try:
        with account.step("source"):
            source = find_source(wanted, means, situation)
        with account.step("requirements"):
            environ = find_requirements(means, situation)
        with account.step("toolkit"):
            toolkit = _provide(means, situation)
    finally:
        account.bytes["downloaded"] += means.supply.downloaded
    account.find(f"toolkit: CUDA {toolkit.version} by {toolkit.how}")
    with account.step("build"):
        built = _build(wanted, means, situation, source=source, environ=environ, home=toolkit.home)
    left_out = built.account["variables_left_out"]
    account.find(f"left out of the compile: {', '.join(left_out)}" if left_out else "")
    return built.wheel, entry_of(built, wanted, situation)


def _check_first(wanted: Wanted, means: Means, situation: Situation) -> None:
    """Refuse with every reason at once; else say what is about to be done."""
    plan, faults = preflight(wanted, means, situation.environment)
    if faults:
        raise ToolkitError("; ".join(faults))
    situation.account.announce(_announcement(wanted, plan, means, situation.request))


def preflight(
    wanted: Wanted, means: Means, environment: Environment
) -> Tuple[Plan, Tuple[str, ...]]:
    """What would be done, and all that is in its way; nothing is fetched."""
    limits, fetched = read_limits(), means.fetched
    parts = parts_to_fetch(fetched, supply=means.supply) if fetched else ()
    plan = Plan(
        cuda=wanted.cell.cuda_text,
        driver_cuda=environment.devices.driver_cuda,
        driver=environment.devices.driver,
        gcc_max=fetched.gcc_max if fetched else None,
        fetched=sum(part.size for part in parts),
        has_archives=fetched is not None and any(p.file.endswith(".xz") for p in fetched.parts),
        cpu_seconds=sum(wanted.cpu_seconds.values()) * len(wanted.architectures.machine_code),
        width=choose_width(limits).jobs,
        budget=means.ends - time.monotonic(),
    )
    machine = Machine(limits, free_bytes(means.folder), means.folder)
    faults = [
        *plan_faults(plan, machine),
        *machine_faults(plan, interpreter=environment.interpreter.executable, environ=os.environ),
    ]
    if means.there is None and fetched is None and APT not in means.ways.ways:
        where = "; ".join(means.refused)
        faults.insert(
            0,
            f"no CUDA toolkit equals torch's {plan.cuda} ({where}), and none is pinned to be "
            f"fetched: set CUDA_HOME to a {plan.cuda} toolkit",
        )
    return plan, tuple(faults)


def _announcement(wanted: Wanted, plan: Plan, means: Means, request: Request) -> str:
    fetched = f"{plan.fetched / 1e6:.0f} MB of CUDA {plan.cuda} to fetch, " if plan.fetched else ""
    return (
        f"no wheel fits: compiling {', '.join(wanted.modules)} for {wanted.architectures.text}, "
        f"{fetched}{plan.cpu_seconds:.0f} CPU-seconds on {plan.width} cores, "
        f"{request.compile_timeout:.0f} s at most; {FLAG} 0 leaves it out; log: {means.log}"
    )


def _provide(means: Means, situation: Situation) -> Toolkit:
    """The toolkit, whole."""
    into, torch = os.path.join(means.folder, "toolkit"), situation.environment.torch.directory
    os.makedirs(into, exist_ok=True)
    before, toolkit = means.supply.downloaded, means.there
    if toolkit is None:
        toolkit = _fetch(means, situation, into=into)
    whole = complete(toolkit, means.pinned, torch_directory=torch, supply=means.supply, into=into)
    situation.account.bytes["toolkit"] = means.supply.downloaded - before
    return whole


def _fetch(means: Means, situation: Situation, *, into: str) -> Toolkit:
    fetched, mirror = means.fetched, situation.request.cuda_mirror
    if fetched is not None:
        return fetch_toolkit(fetched, supply=means.supply, mirror=mirror, into=into)
    from apex_installer.make.apt import install_by_apt, plan_apt  # noqa: PLC0415 - when asked
    from apex_installer.make.compose import nvidia_folders  # noqa: PLC0415

    torch, apt = situation.environment.torch, means.pins.apt
    cuda = str(torch.cuda)
    with open("/etc/os-release", encoding="utf-8") as file:
        os_release = file.read()
    plan = plan_apt(
        apt,
        cuda=cuda,
        os_release=os_release,
        lacks_libraries=not nvidia_folders(torch.directory),
        is_root=os.geteuid() == 0,
    )
    if apt is not None:
        install_by_apt(
            plan, apt, supply=means.supply, folder=means.folder, log=means.log, ends_at=means.ends
        )
    return find_toolkit(cuda, environ={})


def _build(
    wanted: Wanted,
    means: Means,
    situation: Situation,
    *,
    source: str,
    environ: Dict[str, str],
    home: str,
) -> Built:
    from apex_installer.make.build import build_wheel  # noqa: PLC0415 - a refusal does without
    from apex_installer.make.request import BuildRequest  # noqa: PLC0415

    request = BuildRequest(
        source=source,
        interpreter=situation.environment.interpreter.executable,
        distribution=situation.recipe.distribution,
        package=situation.recipe.package,
        version=wanted.version,
        cell=wanted.cell.label,
        torch=wanted.torch,
        modules=wanted.modules,
        architectures=wanted.architectures.text,
        work=os.path.join(means.folder, "work"),
        argv=wanted.argv,
        environment=wanted.environment,
        requires=wanted.requires,
        cpu_seconds=wanted.cpu_seconds,
        toolkit=home,
        time_limit=max(means.ends - time.monotonic(), 1.0),
        nice=NICE,
        strip=True,
    )
    out = os.path.join(means.folder, "out")
    return build_wheel(request, out=out, log=means.log, environ=environ)


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
        ref=wanted.made_of,
        modules=tuple(
            read_module(path, name=module, file=module.replace(".", "/") + suffix)
            for module, path in sorted(built.modules.items())
        ),
        floors=version_floors(built.modules),
        symbols_digest=symbols_digest(built.modules),
        requires=wanted.requires,
        tests={"gpu": "untested"},
    )
