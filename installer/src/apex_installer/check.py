"""An installed or staged Apex is checked by reading its files; nothing of it is imported."""

from __future__ import annotations

import os
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple

from apex_installer.errors import CheckError, TrustError
from apex_installer.model.arch import Architectures
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.read.fatbin import read_architectures
from apex_installer.read.symbols import check_symbols

SHOWN = 3
"""Missing symbols that a line names before it says how many more there are."""


def find_module_files(
    directories: Iterable[str], modules: Iterable[str], *, suffix: str
) -> Mapping[str, Optional[str]]:
    """Where each extension module lies: the first directory that holds it, as import finds it."""
    places = tuple(directories)
    return {
        module: next(
            (
                path
                for place in places
                for ending in (suffix, ".abi3.so", ".so")
                for path in (os.path.join(place, module + ending),)
                if os.path.isfile(path)
            ),
            None,
        )
        for module in modules
    }


def module_faults(files: Mapping[str, Optional[str]], environment: Environment) -> Tuple[str, ...]:
    """Every reason why these modules would not load and run here, one line each."""
    missing = sorted(name for name, path in files.items() if path is None)
    faults = [f"has no module {', '.join(missing)}"] if missing else []
    present = {name: path for name, path in files.items() if path is not None}
    faults += symbol_faults(tuple(present.values()), environment)
    for name, path in sorted(present.items()):
        faults += gpu_faults(name, read_architectures(path), environment)
    return tuple(faults)


def symbol_faults(paths: Sequence[str], environment: Environment) -> List[str]:
    """The symbol check in words: the first few missing symbols, and how many more."""
    missing = check_symbols(paths, interpreter=environment.interpreter, torch=environment.torch)
    lines = [symbol.line for symbol in missing[:SHOWN]]
    more = len(missing) - len(lines)
    return [*lines, f"and {more} more"] if more else lines


def gpu_faults(name: str, held: Architectures, environment: Environment) -> List[str]:
    """GPUs for which a module has neither machine code nor PTX that the driver would take."""
    if not (held.machine_code or held.ptx):
        return []
    devices, torch = environment.devices, environment.torch
    made_by = tuple(int(part) for part in (torch.cuda or "0.0").split(".")[:2])
    lacking = [
        gpu.text
        for gpu in devices.gpus
        if held.how_it_runs(
            gpu.capability, driver_cuda=devices.driver_cuda, made_by=(made_by[0], made_by[1])
        )
        is None
    ]
    if not lacking:
        return []
    line = f"{name} holds code for {held.text} only, not for {', '.join(lacking)}"
    return [f"{line}: it would fail later as 'no kernel image', often reported in another line"]


def require_machine_code(paths: Sequence[str], entry: Entry) -> None:
    """Raise TrustError when staged modules lack code that the index says they hold.

    The entry was chosen by what the index says; what it says of a file is believed of no file.
    """
    found = {os.path.basename(path): read_architectures(path) for path in paths}
    faults = [
        f"{module.name} holds code for {held.text or 'no GPU'}, "
        f"the index says {module.architectures.text}"
        for module in entry.modules
        for held in (found[module.file],)
        if not (
            set(module.machine_code) <= set(held.machine_code) and set(module.ptx) <= set(held.ptx)
        )
    ]
    if faults:
        raise TrustError("; ".join(faults))


def require_symbols(paths: Sequence[str], environment: Environment) -> None:
    """Raise CheckError when staged modules would not load with this torch."""
    faults = symbol_faults(paths, environment)
    if faults:
        raise CheckError(f"symbol check: {'; '.join(faults)}")
