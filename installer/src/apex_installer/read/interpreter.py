"""Which Python the app runs with, and which torch it has; nothing of torch is imported."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from apex_installer.errors import NoTorchError, UsageError
from apex_installer.model.environment import Interpreter
from apex_installer.read import facts
from apex_installer.read.app_command import find_program, interpreter_of
from apex_installer.read.torch_files import find_torch
from apex_installer.read.torch_places import find_torches

START_LIMIT = 20.0
"""Seconds for an interpreter to tell its facts; a cold network volume is slow."""

_LONGEST_REASON = 120


class Candidate(NamedTuple):
    """An interpreter to look at."""

    executable: str
    why: str
    """Where the name came from: `--python`, `VIRTUAL_ENV`, …"""


def find_interpreter(
    *, python: Optional[str], app: Sequence[str], environ: Mapping[str, str]
) -> Tuple[Interpreter, str]:
    """The first interpreter with a torch, and that torch's package folder.

    The order: `--python` (which stands alone), the app command's interpreter, `$VIRTUAL_ENV`,
    `$CONDA_PREFIX`, `python3`, `python`, and the one that runs us. UsageError for a `--python`
    that is no interpreter; NoTorchError names what was tried and torches found elsewhere.
    """
    without_torch: List[Interpreter] = []
    for candidate in list_candidates(python=python, app=app, environ=environ):
        try:
            interpreter = read_interpreter(candidate.executable)
        except UsageError:
            if candidate.why == "--python":
                raise
            continue
        torch = find_torch(interpreter.path)
        if torch is not None:
            return interpreter, torch
        without_torch.append(interpreter)
    raise NoTorchError(_no_torch_line(without_torch, environ))


def list_candidates(
    *, python: Optional[str], app: Sequence[str], environ: Mapping[str, str]
) -> Tuple[Candidate, ...]:
    """The interpreters to look at, in order, each file once. UsageError for a bad `--python`.

    Their paths are absolute: they are started from another folder than ours.
    """
    if python:
        return (Candidate(os.path.abspath(_explicit(python, environ)), "--python"),)
    found: List[Candidate] = []
    seen: Set[Tuple[str, str]] = set()
    for name, why in _candidates(app, environ):
        candidate = Candidate(os.path.abspath(name), why)
        place = _place(candidate.executable)
        if place not in seen and os.access(candidate.executable, os.X_OK):
            seen.add(place)
            found.append(candidate)
    return tuple(found)


def read_interpreter(executable: str) -> Interpreter:
    """What an interpreter says of itself; UsageError where it does not run or is no Python 3."""
    data = facts.read_facts(find_editable=False) if _is_ours(executable) else _ask(executable)
    if _is_ours(executable) and find_torch(data["path"]) is None:
        data = facts.read_facts(find_editable=True)
    return _interpreter(data, executable)


def _candidates(app: Sequence[str], environ: Mapping[str, str]) -> Iterator[Candidate]:
    of_app = interpreter_of(app, environ)
    if of_app:
        yield Candidate(of_app, "the app's command")
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if environ.get(variable):
            yield Candidate(os.path.join(environ[variable], "bin", "python"), variable)
    for name in ("python3", "python"):
        program = find_program(name, environ)
        if program:
            yield Candidate(program, name)
    # Whoever starts us by a certain python and says nothing else means that one.
    if sys.executable:
        yield Candidate(sys.executable, "the python that runs apex-install")


def _explicit(python: str, environ: Mapping[str, str]) -> str:
    """A path, a name on PATH, or the folder of a virtual environment."""
    if os.path.isdir(python):
        python = os.path.join(python, "bin", "python")
    program = find_program(python, environ)
    if program is None:
        raise UsageError(f"--python {python}: no such program; give the path of a python")
    return program


def _is_ours(executable: str) -> bool:
    """Whether our own `sys.path` is what the app will have; `-I`, `-E`, `-S` and `-s` change it."""
    flags = sys.flags
    narrowed = flags.isolated or flags.ignore_environment or flags.no_site or flags.no_user_site
    return _is_same(executable, sys.executable) and not narrowed


def _is_same(one: str, other: str) -> bool:
    """`python3` beside `python` of one environment; a link elsewhere is another environment."""
    return one == other or _place(one) == _place(other)


def _place(executable: str) -> Tuple[str, str]:
    """A virtual environment's python is a link: the folder tells it from the one it links to."""
    return os.path.realpath(os.path.dirname(executable)), os.path.realpath(executable)


def _ask(executable: str) -> Dict[str, Any]:
    """Run the facts' own text in it; cwd is `/`, so that no stray `json.py` is taken."""
    import subprocess  # noqa: PLC0415 - costs 12 ms, and our own interpreter needs none

    loader = facts.__spec__.loader
    source = getattr(loader, "get_source")(facts.__name__)  # noqa: B009 - not in the base class
    try:
        data = json.loads(_run([executable, "-c", source]).splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        why = _reason(error, source)
        raise UsageError(f"{executable} does not run as a Python 3: {why}") from error
    if not isinstance(data, dict) or not set(facts.FIELDS) <= set(data):
        raise UsageError(f"{executable} does not run as a Python 3: it answers {data!r:.80}")
    return data


def _run(command: Sequence[str]) -> bytes:
    """Its stdout; what `subprocess.run` raises. A wrapper's children end with it at the limit."""
    import subprocess  # noqa: PLC0415 - as above

    with subprocess.Popen(
        list(command),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=START_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), out, err)
    return out


def _reason(error: Exception, source: str) -> str:
    """The last line that it wrote, or the error itself, on one line.

    A program that is no Python may write of `source` as of a file; that says nothing.
    """
    written = getattr(error, "stderr", None) or b""
    lines = written.decode("utf-8", "replace").strip().splitlines()
    if lines and source[:_LONGEST_REASON].splitlines()[0] not in lines[-1]:
        return lines[-1][:_LONGEST_REASON]
    code = getattr(error, "returncode", None)
    if code is not None:
        return f"it exits with {code}"
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _interpreter(data: Mapping[str, Any], executable: str) -> Interpreter:
    # Python puts the folder of what it runs first: that is us, not the app.
    own = os.path.abspath(sys.path[0]) if sys.path and _is_ours(executable) else None
    return Interpreter(
        # A wrapper script stays what is shown; the program itself is what the loader would start.
        executable=str(data["executable"] or executable),
        tag=str(data["tag"]),
        version=str(data["version"]),
        platform=str(data["platform"]),
        extension_suffix=str(data["extension_suffix"]),
        path=tuple(entry for entry in data["path"] if entry != own),
        purelib=str(data["purelib"]),
        libpython=data["libpython"],
    )


def _no_torch_line(tried: Sequence[Interpreter], environ: Mapping[str, str]) -> str:
    names = ", ".join(f"{one.executable} ({'.'.join(one.version.split('.')[:2])})" for one in tried)
    line = f"no torch in {names}" if names else "no python3 was found"
    elsewhere = find_torches(environ)
    if not elsewhere:
        return f"{line}; install torch there first, or name its python with --python"
    first = elsewhere[0]
    others = f" (and in {', '.join(one.root for one in elsewhere[1:4])})" if elsewhere[1:] else ""
    return f"{line}; found {first.version} in {first.root}{others}: use --python {first.python}"
