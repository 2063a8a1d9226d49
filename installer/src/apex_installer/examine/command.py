"""The command `doctor SUBJECT`: find it, read it, judge it, and say so in a sentence."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple

import apex_installer
from apex_installer.account import Account
from apex_installer.deadline import Deadline
from apex_installer.describe import devices_lines, interpreter_line, printable, torch_line
from apex_installer.errors import (
    EXIT_NOTHING_GOOD_ENOUGH,
    EXIT_USABLE,
    CheckError,
    NoTorchError,
    UsageError,
)
from apex_installer.examine.facts import ModuleFacts, read_module_facts
from apex_installer.examine.find import find_subject
from apex_installer.examine.judge import (
    Here,
    Lacking,
    code_text,
    gpu_notes,
    judge,
    sm_text,
)
from apex_installer.examine.subject import Subject, for_one_python
from apex_installer.model.arch import version_text
from apex_installer.model.environment import Environment
from apex_installer.model.recipe import Recipe
from apex_installer.model.report import Report
from apex_installer.model.request import Request
from apex_installer.read.devices import read_devices
from apex_installer.read.environment import read_environment, read_glibc
from apex_installer.read.interpreter import list_candidates, read_interpreter
from apex_installer.read.symbols import MissingSymbol, check_symbols
from apex_installer.read.torch_files import find_torch, read_torch
from apex_installer.read.torch_places import find_torches

SHOWN = 12
"""Modules that are told line by line; `--json` tells all."""
SHOWN_MISSING = 3
"""Of what one of them misses."""
EVERYWHERE = ("libc.", "libm.", "libdl.", "librt.", "libpthread.", "libgcc_s.", "ld-linux")
"""Needed libraries that no line mentions."""
MOST_TORCHES = 4
"""Others on this machine that are asked whether they fit better."""


def examine(
    text: str,
    request: Request,
    *,
    environ: Mapping[str, str],
    account: Account,
    recipe: Recipe,
    required: Tuple[str, ...],
) -> Tuple[Report, Tuple[str, ...]]:
    """Would this subject load and run here? Exit code 0 if so, else 3; nothing of it is run."""
    with account.step("read"):
        here, path = _read_place(request, environ, account)
    with _scratch() as folder, account.step("examine"):
        subject = find_subject(
            text,
            path=path,
            suffix=here.interpreter.extension_suffix,
            recipe=recipe,
            folder=folder,
            fetch=(request.allow_http, Deadline(request.deadline), request.offline),
        )
        files = _read_files(subject, here)
        modules = [one for one in files if one.is_module]
        missing = _missing(modules, here)
        lacking = _lacking(subject, recipe, required, modules)
        faults = judge(subject, modules, missing, here, lacking)
        notes = [*subject.notes, *_standin_notes(subject, required)]
        notes += gpu_notes(modules, here) if not subject.is_ours else ()
        notes += _elsewhere(modules, missing, environ)
    lost = {one.path: _missing_lines(one, missing) for one in files}
    account.examined = tuple({**one.to_json(), "missing": lost[one.path]} for one in files)
    for note in notes:
        account.find(printable(note))
    if faults:
        account.fail("examined", CheckError(printable("; ".join(faults))))
    lines = [f"apex-install {apex_installer.__version__}", *_place_lines(here)]
    lines += [f"subject: {subject.title} ({subject.kind}) in {subject.where}"]
    lines += _module_lines(files, lost)
    code = EXIT_NOTHING_GOOD_ENOUGH if faults else EXIT_USABLE
    answer = printable(_answer(subject, files, here, faults))
    return account.close("none", answer, exit_code=code), tuple(map(printable, lines))


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder that is gone at the end; empty where none can be made, and few subjects need one."""
    import shutil  # noqa: PLC0415 - it costs a start 10 ms, and a start is not this command
    import tempfile  # noqa: PLC0415 - the same

    try:
        folder = tempfile.mkdtemp(prefix="apex-doctor-")
    except OSError:
        folder = ""
    try:
        yield folder
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _read_files(subject: Subject, here: Here) -> List[ModuleFacts]:
    """Modules first, then the libraries beside them."""
    found = for_one_python(subject.found, here.interpreter.extension_suffix)
    files = [read_module_facts(one) for one in found]
    if subject.kind == "module":  # whoever names a library means just that
        files = [one._replace(is_module=True) for one in files]
    return sorted(files, key=lambda one: not one.is_module)


# -- the place -----------------------------------------------------------------------------------


def _read_place(
    request: Request, environ: Mapping[str, str], account: Account
) -> Tuple[Here, Tuple[str, ...]]:
    """What decides, and `sys.path` with the target; without a torch, the first Python there is."""
    try:
        environment: Environment = read_environment(request, environ=environ)
    except NoTorchError as error:
        return _read_without_torch(request, environ, str(error))
    account.environment = environment
    here = Here(environment.interpreter, environment.torch, environment.devices, environment.glibc)
    return here, (*environment.interpreter.path, environment.target)


def _read_without_torch(
    request: Request, environ: Mapping[str, str], why: str
) -> Tuple[Here, Tuple[str, ...]]:
    for candidate in list_candidates(python=request.python, app=request.app, environ=environ):
        try:
            interpreter = read_interpreter(candidate.executable)
        except UsageError:
            continue
        devices = read_devices(environ=environ, gpu=request.gpu)
        target = (request.target,) if request.target else ()
        here = Here(interpreter, None, devices, read_glibc(), no_torch=why)
        return here, (*interpreter.path, *target)
    raise NoTorchError(why)


def _place_lines(here: Here) -> Tuple[str, ...]:
    torch = torch_line(here.torch) if here.torch else f"torch: none: {here.no_torch}"
    return (interpreter_line(here.interpreter), torch, *devices_lines(here.devices))


# -- what is missing -----------------------------------------------------------------------------


def _missing(modules: Sequence[ModuleFacts], here: Here) -> Tuple[MissingSymbol, ...]:
    paths = [one.path for one in modules if not one.damaged and one.machine == here.machine]
    return check_symbols(paths, interpreter=here.interpreter, torch=here.torch) if paths else ()


def _lacking(
    subject: Subject, recipe: Recipe, required: Tuple[str, ...], modules: Sequence[ModuleFacts]
) -> Optional[Lacking]:
    """What the recipe's package lacks of what is required; stand-ins in Python count as there."""
    if not subject.is_ours:
        return None
    there = {one.name for one in modules}
    lacking = tuple(
        name for name in required if name not in there and not subject.has_standin(name)
    )
    if not lacking:
        return None
    used_by = next(
        (name for name, needs in recipe.provides.items() if set(needs) & set(lacking)), ""
    )
    parent = used_by.rpartition(".")[0]
    place = parent.replace(".", "/")
    is_another = bool(parent) and not (subject.holds(place) or subject.holds(f"{place}.py"))
    return Lacking(lacking, used_by=parent if is_another else used_by, is_another=is_another)


def _standin_notes(subject: Subject, required: Tuple[str, ...]) -> List[str]:
    names = [name for name in required if subject.is_ours and subject.has_standin(name)]
    return [f"stand-ins by torch's own operators: {', '.join(names)}"] if names else []


def _elsewhere(
    modules: Sequence[ModuleFacts], missing: Sequence[MissingSymbol], environ: Mapping[str, str]
) -> List[str]:
    """Another torch of this machine that defines all that is missing here."""
    if not missing or not any(one.needs_torch for one in modules):
        return []
    for place in find_torches(environ)[:MOST_TORCHES]:
        try:
            interpreter = read_interpreter(place.python)
        except UsageError:
            continue
        directory = find_torch(interpreter.path)
        tags = {one.python for one in modules} - {"", "abi3"}
        if directory is None or tags - {interpreter.tag}:
            continue
        torch = read_torch(directory)
        paths = [one.path for one in modules if not one.damaged]
        if not check_symbols(paths, interpreter=interpreter, torch=torch):
            defines = f"torch {torch.version} in {place.root} defines all that it needs"
            return [f"{defines}: --python {place.python}"]
    return []


# -- words ---------------------------------------------------------------------------------------


def _missing_lines(one: ModuleFacts, missing: Sequence[MissingSymbol]) -> List[str]:
    base = os.path.basename(one.path)
    return [lost.line.replace(base, "", 1).lstrip(": ") for lost in missing if lost.module == base]


def _module_lines(files: Sequence[ModuleFacts], missing: Mapping[str, Sequence[str]]) -> List[str]:
    lines = []
    for one in files[:SHOWN]:
        lines.append(_module_line(one))
        lost = missing[one.path]
        lines += [f"  {line}" for line in lost[:SHOWN_MISSING]]
        more = len(lost) - SHOWN_MISSING
        lines += [f"  and {more} more"] if more > 0 else []
    more = len(files) - SHOWN
    return [*lines, f"and {more} more: --json tells all"] if more > 0 else lines


def _module_line(one: ModuleFacts) -> str:
    kind = "module" if one.is_module else "library"
    if one.damaged:
        return f"{kind} {one.file}: {one.damaged}"
    code = code_text(one.everywhere) or (one.parts and "GPU code") or "no GPU code"
    rest = code_text(one.only_in_parts)
    needed = " ".join(soname for soname in one.needed if not soname.startswith(EVERYWHERE))
    facts = [
        one.python,
        one.machine,
        f"{code}{f' (in parts: {rest})' if rest else ''}",
        f"CUDA {one.cuda}" if one.cuda else "",
        "" if one.cxx11_abi is None else f"{'new' if one.cxx11_abi else 'old'} C++ ABI",
        " ".join(f"{family} {floor}" for family, floor in one.floors.items()),
        f"symbols from elsewhere: {one.undefined}",
        f"needs {needed}" if needed else "",
    ]
    return f"{kind} {one.file}: {', '.join(filter(None, facts))}"


def _answer(
    subject: Subject, files: Sequence[ModuleFacts], here: Here, faults: Sequence[str]
) -> str:
    modules = [one for one in files if one.is_module]
    what = f"this module {subject.name}" if subject.kind == "module" else f"this {subject.name}"
    if faults:
        return f"{what} {'; '.join(faults)}"
    if not modules:
        return f"{what} holds no extension module: no torch, CUDA or GPU has a say in it"
    torch = f" beside torch {here.torch.version}" if here.torch else ""
    if not any(one.parts for one in modules):
        its_libraries = ", its libraries do" if any(one.parts for one in files) else ""
        return f"{what} would load{torch}; its modules hold no GPU code{its_libraries}"
    gpus = sorted({sm_text(version_text(gpu.capability)) for gpu in here.devices.gpus})
    if not gpus:
        return (
            f"{what} would load{torch}; no GPU is visible to judge its code by: name it, --gpu 8.9"
        )
    return f"{what} would load{torch} and run on {', '.join(gpus)}"
