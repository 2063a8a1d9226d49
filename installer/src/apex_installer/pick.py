"""The one decision: which entry, and why not each of the others. Pure."""

from __future__ import annotations

from typing import Callable, FrozenSet, Iterable, List, Optional, Tuple

from apex_installer.model.arch import version_text
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.model.report import Refusal
from apex_installer.values import dataclass


@dataclass(frozen=True)
class Wishes:
    """What the caller asks of an entry."""

    modules: Tuple[str, ...]
    """Modules that must be in it."""
    struck_out: Tuple[str, ...] = ()
    """sha256 of entries that were tried and failed (bad bytes, symbol check)."""
    at_hand: Optional[FrozenSet[str]] = None
    """sha256 of the only wheels that can be had, those in the cache; None: all can."""
    plain_only: str = ""
    """Why no variant may be taken, e.g. that other pods share the target; empty: one may."""


@dataclass(frozen=True)
class Choice:
    """The best entry first, and every other one with its reason."""

    fitting: Tuple[Entry, ...]
    """Best first: machine code before PTX, more modules, the newer build, machine code nearest to
    each GPU, the smaller file. So a variant is taken before the plain wheel that does no better."""
    refusals: Tuple[Refusal, ...]
    nearest: Optional[Refusal]
    """The refused entry that came closest, for a helpful line on a miss."""

    @property
    def best(self) -> Optional[Entry]:
        """None when nothing fits."""
        return self.fitting[0] if self.fitting else None


Rule = Callable[[Entry, Environment, Wishes], Optional[str]]
"""A reason to refuse, or None. A new refusal is one function here and one test."""


def is_not_yanked(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """PEP 592: a yanked file is met only by an exact pin, and we pin nothing."""
    return None if entry.yanked is None else f"was yanked: {entry.yanked or 'no reason given'}"


def is_not_struck_out(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """Bad bytes or a failed symbol check in this very run."""
    return "was tried and failed" if entry.sha256 in wishes.struck_out else None


def can_be_had(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """Without a network, what other pods left on the volume is all there is."""
    if wishes.at_hand is None or entry.sha256 in wishes.at_hand:
        return None
    return "is not in the cache, and no network"


def has_modules(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """A Python-only wheel, or one of less than the default set."""
    missing = sorted(set(wishes.modules) - set(entry.module_names))
    return f"lacks {', '.join(missing)}" if missing else None


def same_python(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """pybind11 modules load into exactly one Python minor."""
    cell, tag = entry.the_cell, environment.interpreter.tag
    if cell is None or cell.python == tag:
        return None
    return f"is for {cell.python}, this is {tag}"


def same_platform(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """Machine and operating system."""
    cell, platform = entry.the_cell, environment.interpreter.platform
    if cell is None or cell.platform == platform:
        return None
    return f"is for {cell.platform}, this is {platform}"


def same_torch(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """The C++ ABI of libtorch holds within a minor; an unreleased build must match by git hash."""
    cell, torch = entry.the_cell, environment.torch
    if cell is None or entry.torch_git == torch.git:
        return None
    if not torch.is_release:
        return f"is for torch {entry.torch}, this is the unreleased {torch.version}"
    if cell.torch == torch.minor:
        return None
    return f"is for torch {cell.torch_text}, this is {torch.version}"


def same_cuda(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """Exactly torch's own CUDA minor."""
    cell, cuda = entry.the_cell, environment.torch.cuda
    if cell is None or cell.cuda_text == cuda:
        return None
    return f"is for CUDA {cell.cuda_text}, this torch has {cuda or 'none'}"


def driver_is_new_enough(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """A driver runs every CUDA of its own major and older ones (NVIDIA, CUDA Compatibility)."""
    cell, runs = entry.the_cell, environment.devices.driver_cuda
    if cell is None or runs is None or runs[0] >= cell.cuda[0]:
        return None
    return (
        f"needs a driver for CUDA {cell.cuda[0]}, driver {environment.devices.driver or 'here'} "
        f"runs up to {version_text(runs)}: update the driver"
    )


def same_abi(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """The C++ ABI is a property of torch's build, not of its version."""
    abi = environment.torch.cxx11_abi
    if entry.the_cell is None or abi is None or entry.cxx11_abi == abi:
        return None
    return f"has the {_abi(entry.cxx11_abi)} C++ ABI, this torch the {_abi(abi)} one"


def _abi(cxx11: bool) -> str:  # noqa: FBT001 - a word for each of two
    return "new" if cxx11 else "old"


def glibc_is_new_enough(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """The wheel's highest GLIBC symbol version against the C library that is there."""
    floor, glibc = entry.floors.get("GLIBC"), environment.glibc
    if floor is None or glibc is None:
        return None
    major, minor = (int(part) for part in floor.split(".")[:2])
    if (major, minor) <= glibc:
        return None
    return f"needs glibc {floor}, this is {version_text(glibc)}"


def runs_on_every_gpu(entry: Entry, environment: Environment, wishes: Wishes) -> Optional[str]:
    """Machine code or PTX for each visible GPU, in every module that holds device code."""
    devices = environment.devices
    lacking = {
        gpu.text: entry_architectures(entry)
        for gpu in devices.gpus
        if _how_it_runs(entry, environment, gpu.capability) is None
    }
    if not lacking:
        return None
    held = next(iter(lacking.values())) or "none"
    return f"has no code for {', '.join(lacking)}; it holds {held}"


def variant_is_for_here_alone(
    entry: Entry, environment: Environment, wishes: Wishes
) -> Optional[str]:
    """A variant serves the GPUs that are seen now, and whoever else reads the target not at all."""
    if not entry.variant:
        return None
    why = wishes.plain_only or ("" if environment.devices.gpus else "no GPU is visible")
    return f"is for {entry_architectures(entry)} alone, and {why}" if why else None


def entry_architectures(entry: Entry) -> str:
    """The architectures that every module with device code holds, as text."""
    device = [module.architectures for module in entry.modules if module.has_device_code]
    if not device:
        return ""
    common = device[0]
    for other in device[1:]:
        common = common.common(other)
    return common.text


def _how_it_runs(entry: Entry, environment: Environment, gpu: Tuple[int, int]) -> Optional[str]:
    ways = [
        module.architectures.how_it_runs(
            gpu, driver_cuda=environment.devices.driver_cuda, made_by=entry.made_by
        )
        for module in entry.modules
        if module.has_device_code
    ]
    if None in ways:
        return None
    return "ptx" if "ptx" in ways else "machine-code"


RULES: Tuple[Rule, ...] = (
    same_platform,
    same_python,
    same_torch,
    same_cuda,
    driver_is_new_enough,
    same_abi,
    glibc_is_new_enough,
    has_modules,
    runs_on_every_gpu,
    variant_is_for_here_alone,
    is_not_yanked,
    can_be_had,
    is_not_struck_out,
)


def pick(entries: Iterable[Entry], environment: Environment, wishes: Wishes) -> Choice:
    """Every entry is either fitting or refused with all its reasons."""
    fitting: List[Entry] = []
    refused: List[Tuple[int, Refusal]] = []
    for entry in entries:
        reasons = [why for rule in RULES for why in [rule(entry, environment, wishes)] if why]
        if reasons:
            refused.append((len(reasons), Refusal(entry.file, "; ".join(reasons))))
        else:
            fitting.append(entry)
    refused.sort(key=lambda item: item[0])
    return Choice(
        fitting=_best_first(fitting, environment),
        refusals=tuple(refusal for _, refusal in refused),
        nearest=refused[0][1] if refused else None,
    )


def _best_first(fitting: List[Entry], environment: Environment) -> Tuple[Entry, ...]:
    """Sorting is stable, so the last key sorted by weighs most."""
    ordered = sorted(
        fitting, key=lambda entry: (_distance(entry, environment), entry.size, entry.sha256)
    )
    ordered.sort(key=lambda entry: (entry.version, entry.build_tag), reverse=True)
    # More modules first: the app may want more than what is required.
    ordered.sort(key=lambda entry: (_jitted(entry, environment), -len(entry.modules)))
    return tuple(ordered)


def _distance(entry: Entry, environment: Environment) -> Tuple[int, ...]:
    """Per GPU how far below it the nearest machine code is, in minor versions; 8.6 on 8.9 is 3.

    Of the module that is worst off; what is not run as machine code counts as farthest.
    """
    gpus = sorted({gpu.capability for gpu in environment.devices.gpus})
    device = [module.architectures for module in entry.modules if module.has_device_code]
    return tuple(max((one.distance(gpu) for one in device), default=0) for gpu in gpus)


def _jitted(entry: Entry, environment: Environment) -> int:
    """GPUs for which the driver would have to compile PTX at the first use."""
    gpus = environment.devices.gpus
    return sum(_how_it_runs(entry, environment, gpu.capability) == "ptx" for gpu in gpus)
