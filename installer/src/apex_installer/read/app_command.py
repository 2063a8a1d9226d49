"""The interpreter behind an app's command: its first word, or that script's `#!`."""

from __future__ import annotations

import os
import re
from typing import List, Mapping, Optional, Sequence

_PYTHON = re.compile(r"^(python|pypy)\d*(\.\d+)*t?$")
_EXEC_LINE = re.compile(r"""^'''exec'\s+["']?(/[^"']+?)["']?\s+"\$0"\s+"\$@"$""")
"""pip's and uv's second line where a path is too long or holds blanks for a `#!`."""
_HEAD = 4096


def interpreter_of(app: Sequence[str], environ: Mapping[str, str]) -> Optional[str]:
    """`["torchrun", …]` -> the python of torchrun's environment; None where there is none."""
    if not app:
        return None
    program = find_program(app[0], environ)
    if program is None:
        return None
    if _is_python(program):
        return os.path.abspath(program)
    try:
        with open(program, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    named = parse_shebang(head.decode("utf-8", "replace"))
    found = find_program(named, environ) if named else None
    return os.path.abspath(found) if found else None


def parse_shebang(head: str) -> Optional[str]:
    """The python that a script's first lines name: a path, or a name for PATH; else None."""
    lines = head.splitlines()
    if not lines or not lines[0].startswith("#!"):
        return None
    words = lines[0][2:].split()
    if words and os.path.basename(words[0]) == "env":
        words = _after_env(words)
    if words and _is_python(words[0]):
        return words[0]
    match = _EXEC_LINE.match(lines[1]) if len(lines) > 1 else None
    return match.group(1) if match and _is_python(match.group(1)) else None


def find_program(name: str, environ: Mapping[str, str]) -> Optional[str]:
    """The file that a shell would run for this word, or None."""
    if "/" in name:
        return name if _is_program(name) else None
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder or ".", name)
        if _is_program(path):
            return path
    return None


def _after_env(words: Sequence[str]) -> List[str]:
    """What `env` starts: its flags and assignments dropped."""
    rest = list(words[1:])
    while rest and (rest[0].startswith("-") or "=" in rest[0]):
        rest.pop(0)
    return rest


def _is_python(program: str) -> bool:
    return _PYTHON.match(os.path.basename(program)) is not None


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
