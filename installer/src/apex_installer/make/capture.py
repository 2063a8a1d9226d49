"""Capture: what the ref's own setup.py would run, as a value. Nothing is compiled.

The work is done by `capture_setup.py`, which the target's interpreter runs in its own process.
"""

from __future__ import annotations

import json
import os
import pkgutil
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple

from apex_installer.errors import CompileError
from apex_installer.make.commands import Compile, Link, parse_ninja, parse_spawned
from apex_installer.make.process import Child, wait_for

SCRIPT = "capture_setup.py"


@dataclass(frozen=True)
class Capture:
    """What setup.py would have run, and what it said of itself."""

    facts: Mapping[str, Any]
    """Of interpreter and torch: `tag`, `torch`, `torch_git`, `python_includes`, …"""
    setup: Mapping[str, Any]
    """setup()'s arguments: `packages`, `install_requires`, …"""
    compiles: Tuple[Compile, ...]
    links: Tuple[Link, ...]
    python_tree: str
    """Folder with the pure Python part, as setup.py's own build_py laid it out."""
    build: str
    """The folder that the captured paths lie under; nothing is ever written to them."""

    @property
    def modules(self) -> Tuple[str, ...]:
        """Import names of all that setup.py would make, with these flags."""
        return tuple(link.module for link in self.links)


def parse_capture(text: str, *, build: str) -> Capture:
    """Read what the script wrote."""
    data = json.loads(text)
    compiles = [one for part in data["ninja"] for one in parse_ninja(part)]
    spawned, links = parse_spawned(
        data["spawned"],
        library_folder=os.path.join(build, "lib"),
        extension_suffix=data["facts"]["extension_suffix"],
    )
    return Capture(
        facts=data["facts"],
        setup=data["setup"],
        compiles=(*compiles, *spawned),
        links=links,
        python_tree=os.path.join(build, "python"),
        build=build,
    )


def run_capture(
    interpreter: str,
    *,
    source: str,
    argv: Sequence[str],
    environ: Mapping[str, str],
    build: str,
    log: str,
    ends_at: Optional[float] = None,
) -> Capture:
    """Run setup.py of `source` by `interpreter`; about 2 s, most of it `import torch`.

    `build` is an empty folder; what setup.py says is added to the file `log`; `ends_at` is a time
    of `time.monotonic`. CompileError holds the exception that setup.py ended with.
    """
    out, words = os.path.join(build, "capture.json"), os.path.join(build, "capture.log")
    spec = {"source": source, "argv": list(argv), "build": build, "out": out}
    script, spec_file = os.path.join(build, SCRIPT), os.path.join(build, "spec.json")
    _write(script, _read_script())
    _write(spec_file, json.dumps(spec))
    if not os.path.exists(os.path.join(source, "setup.py")):
        raise CompileError(f"{source}: no setup.py there; give the folder of a checkout")
    child = Child([interpreter, script, spec_file], environ=environ, folder=build, words=words)
    try:
        status = wait_for(child, ends_at=ends_at, doing="setup.py was captured")
    finally:
        said = _read(words)
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"+ {interpreter} setup.py {' '.join(argv)} (captured)\n{said}")
    if status != 0 or not os.path.exists(out):
        raise CompileError(f"{source}/setup.py: {last_exception(said)}")
    with open(out, encoding="utf-8") as file:
        return parse_capture(file.read(), build=build)


def last_exception(words: str) -> str:
    """The exception that a Python process died of, in one line; else its last line."""
    lines = [line.rstrip() for line in words.splitlines() if line.strip()]
    if not lines:
        return "ended without a word"
    start = max((n for n, line in enumerate(lines) if line.startswith("Traceback")), default=-1)
    for line in lines[start + 1 :] if start >= 0 else []:
        if not line.startswith((" ", "Traceback")):
            return line
    return lines[-1]


def _read_script() -> str:
    # Also out of a zipapp, where it has no path that an interpreter could be given.
    data = pkgutil.get_data("apex_installer.make", SCRIPT)
    if data is None:
        raise CompileError(f"{SCRIPT} is not packed with this program")
    return data.decode()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
