"""Would it load and run here? Facts of a subject and of a place in, sentences out. Pure."""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

from apex_installer.examine.facts import ModuleFacts, is_torchs
from apex_installer.examine.subject import Subject
from apex_installer.model.arch import Architectures, Version, parse_version, version_text
from apex_installer.model.environment import Devices, Gpu, Interpreter, Torch
from apex_installer.read.demangle import demangle
from apex_installer.read.symbols import MissingSymbol
from apex_installer.values import replace

LATER = "it will fail later as 'no kernel image', often reported in another line"
_ABI = {True: "new", False: "old"}
_PLATFORM = re.compile(r"^(?:manylinux_(\d+)_(\d+)|manylinux(?:1|2010|2014)|linux)_(\w+)$")


class Here(NamedTuple):
    """What of this place decides."""

    interpreter: Interpreter
    torch: Optional[Torch]
    devices: Devices
    glibc: Optional[Version]
    no_torch: str = ""
    """Why there is no torch, with the remedy."""

    @property
    def machine(self) -> str:
        """`x86_64`."""
        return self.interpreter.platform.partition("_")[2]


class Lacking(NamedTuple):
    """What the recipe's package should have and has not."""

    modules: Tuple[str, ...]
    used_by: str
    """`apex.normalization.FusedRMSNorm`: what dies without them."""
    is_another: bool = False
    """Whether it is another package of that name altogether."""


def judge(
    subject: Subject,
    modules: Sequence[ModuleFacts],
    missing: Sequence[MissingSymbol],
    here: Here,
    lacking: Optional[Lacking] = None,
) -> Tuple[str, ...]:
    """Every reason why it would not load and run here, in the order in which they would be met."""
    faults = tag_faults(subject.tags, here)
    faults += [f"{one.file}: {one.damaged}" for one in modules if one.damaged]
    if not subject.tags:
        faults += _python_faults(modules, here)
    faults += _machine_faults(modules, here)
    faults += _lacking_faults(lacking, modules)
    faults += _torch_faults(modules, here)
    said = any("built for CUDA" in fault for fault in faults)
    faults += _symbol_faults(subject, missing, here, said=said)
    faults += _gpu_faults(subject, modules, here)
    return tuple(dict.fromkeys(faults))


# -- Python and platform -------------------------------------------------------------------------


def tag_faults(tags: Sequence[str], here: Here) -> List[str]:
    """A wheel's tags (PEP 425) against this interpreter: the reasons of the nearest one."""
    reasons = [_faults_of_tag(tag, here) for tag in tags]
    return min(reasons, key=len) if reasons else []


def _faults_of_tag(tag: str, here: Here) -> List[str]:
    python, abi, platform = tag.split("-")
    faults = []
    if not _python_fits(python, abi, here.interpreter.tag):
        faults.append(f"is for {python}, this is {here.interpreter.tag}")
    if platform != "any":
        faults += _faults_of_platform(platform, here)
    return faults


def _faults_of_platform(platform: str, here: Here) -> List[str]:
    match = _PLATFORM.match(platform)
    if match is None or match.group(3) != here.machine:
        return [f"is for {platform}, this is {here.interpreter.platform}"]
    if match.group(1) and here.glibc:
        floor = (int(match.group(1)), int(match.group(2)))
        if floor > here.glibc:
            return [f"asks for glibc {version_text(floor)}, this is {version_text(here.glibc)}"]
    return []


def _python_fits(python: str, abi: str, mine: str) -> bool:
    if python == mine and abi in (mine, "abi3", "none"):
        return True
    if python in ("py3", f"py{mine[2:].rstrip('t')}"):
        return True
    theirs, own = re.match(r"^cp3(\d+)$", python), re.match(r"^cp3(\d+)$", mine)
    return bool(abi == "abi3" and theirs and own and int(theirs.group(1)) <= int(own.group(1)))


def _python_faults(modules: Sequence[ModuleFacts], here: Here) -> List[str]:
    mine = here.interpreter.tag
    others = sorted({one.python for one in modules if one.python not in ("", "abi3", mine)})
    return [f"is for {', '.join(others)}, this is {mine}"] if others else []


def _machine_faults(modules: Sequence[ModuleFacts], here: Here) -> List[str]:
    others = sorted({one.machine for one in modules if one.machine not in ("", here.machine)})
    return [f"is for {', '.join(others)} machines, this is {here.machine}"] if others else []


# -- what it lacks -------------------------------------------------------------------------------


def _lacking_faults(lacking: Optional[Lacking], modules: Sequence[ModuleFacts]) -> List[str]:
    if lacking is None:
        return []
    if lacking.is_another:
        return [f"is another package of that name: it has no {lacking.used_by}"]
    what = f"has no module {', '.join(lacking.modules)}"
    if not modules:
        what = "holds no extension module at all"
    name = lacking.used_by.rpartition(".")[2]
    return [f"{what}: {name} would die at construction" if name else what]


# -- torch and symbols ---------------------------------------------------------------------------


def _torch_faults(modules: Sequence[ModuleFacts], here: Here) -> List[str]:
    torch = here.torch
    if torch is None:
        return [f"needs torch: {here.no_torch}"] if any(m.needs_torch for m in modules) else []
    faults = []
    abis = {one.cxx11_abi for one in modules if one.cxx11_abi is not None}
    if torch.cxx11_abi is not None and abis == {not torch.cxx11_abi}:
        faults.append(
            f"is built for the {_ABI[not torch.cxx11_abi]} C++ ABI, torch {torch.version} has "
            f"the {_ABI[torch.cxx11_abi]} one"
        )
    cuda = sorted({one.cuda for one in modules if one.cuda})
    if cuda and (torch.cuda or "").partition(".")[0] not in cuda:
        has = f"has CUDA {torch.cuda}" if torch.cuda else "is without CUDA"
        faults.append(f"is built for CUDA {', '.join(cuda)}, torch {torch.version} {has}")
    return faults


def _symbol_faults(
    subject: Subject,
    missing: Sequence[MissingSymbol],
    here: Here,
    *,
    said: bool,
) -> List[str]:
    """`said`: whether it is known already that its CUDA libraries are not here."""
    if here.torch is None:  # what torch would bring is not there; that is said already
        missing = [one for one in missing if not _comes_with_torch(one)]
    of_torch = [one for one in missing if one.kind == "symbol" and is_torchs(one.library)]
    faults = []
    if of_torch:
        whose = f"torch {subject.made_for}'s" if subject.made_for else "another torch's"
        faults.append(
            f"needs {whose} symbols: {demangle(of_torch[0].name)} is not defined by torch "
            f"{of_torch[0].torch}{_more(of_torch)}"
        )
    others = [one for one in missing if one not in of_torch and not (said and _is_cudas(one))]
    others.sort(key=lambda one: one.kind == "symbol")  # a library that is lost explains symbols
    if others:
        faults.append(f"{_without_name(others[0].line, subject)}{_more(others)}")
    return faults


def _more(found: Sequence[MissingSymbol]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def _comes_with_torch(one: MissingSymbol) -> bool:
    return is_torchs(one.library) or _is_cudas(one)


def _is_cudas(one: MissingSymbol) -> bool:
    return (one.library or "").startswith(("libcu", "libnv", "libnccl"))


def _without_name(line: str, subject: Subject) -> str:
    """`x.so needs libfoo` -> `needs libfoo`, where the subject is that one file."""
    if subject.kind != "module":
        return line
    return re.sub(rf"^{re.escape(subject.found[0].file)}:? ", "", line)


# -- GPUs ----------------------------------------------------------------------------------------


def _gpu_faults(subject: Subject, modules: Sequence[ModuleFacts], here: Here) -> List[str]:
    """GPUs that find no code: in any module, or in one module of the recipe's package.

    Other packages may choose among modules and kernels by GPU: of these, `gpu_notes` tells.
    """
    with_code = [one for one in modules if one.parts]
    lines = []
    for gpu in here.devices.gpus:
        shares = [_share(one, gpu, here) for one in with_code]
        if not subject.is_ours and any(shares):
            continue
        for one in (one for one, share in zip(with_code, shares) if share < 1):
            held = one.everywhere if subject.is_ours else one.anywhere
            name = f"{one.name} " if len({other.parts for other in with_code}) > 1 else ""
            held_text = f"{code_text(held)} only" if code_text(held) else "no code for all kernels"
            lines.append(f"{name}holds {held_text}, {_yours(gpu)}{_driver(one, gpu, here)}")
    return [f"{'; '.join(dict.fromkeys(lines))}: {LATER}"] if lines else []


def gpu_notes(modules: Sequence[ModuleFacts], here: Here) -> Tuple[str, ...]:
    """Modules that are not, or not whole, for a GPU."""
    found = []
    for module in modules:
        for gpu in here.devices.gpus:
            share = _share(module, gpu, here)
            if share < 1:
                what = "some of its kernels are" if share else "it is"
                name = sm_text(version_text(gpu.capability))
                found.append(
                    f"{module.name}: {what} not for {name}: 'no kernel image' there, unless the "
                    "package chooses by GPU itself"
                )
    return tuple(dict.fromkeys(found))


def _share(module: ModuleFacts, gpu: Gpu, here: Here) -> float:
    """How much of its device code runs there, by parts; 1 where there is none."""
    if not module.parts:
        return 1.0
    cuda = here.torch.cuda if here.torch else None
    made_by = parse_version(cuda) if cuda else (0, 0)
    driver = here.devices.driver_cuda
    ways = [
        part.how_it_runs(gpu.capability, driver_cuda=driver, made_by=made_by)
        for part in module.parts
    ]
    return sum(way is not None for way in ways) / len(ways)


def _driver(module: ModuleFacts, gpu: Gpu, here: Here) -> str:
    """Whether a newer driver would compile what it holds."""
    newer = here._replace(devices=replace(here.devices, driver_cuda=None))
    return " (update the driver)" if _share(module, gpu, newer) == 1 else ""


def _yours(gpu: Gpu) -> str:
    return f"your GPU is {sm_text(version_text(gpu.capability))}"


def sm_text(arch: str) -> str:
    """`9.0a` -> `sm_90a`, as NVIDIA's tools and torch's errors have it."""
    return f"sm_{arch.replace('.', '')}"


def code_text(held: Architectures) -> str:
    """`sm_80 sm_90 code`, `sm_80 code, PTX of sm_90`; empty where there is no device code."""
    code = " ".join(sm_text(arch) for arch in held.machine_code)
    ptx = " ".join(sm_text(arch) for arch in held.ptx)
    return ", ".join(filter(None, (f"{code} code" if code else "", f"PTX of {ptx}" if ptx else "")))
