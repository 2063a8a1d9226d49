"""What a captured setup.py would have run, as values: the texts of build.ninja and spawned lines.

Pure. The format is the part of ninja's that torch's BuildExtension writes (ninja manual, "Ninja
file reference"): variables, rules with a command, build statements; `$ `, `$:` and `$$` escaped.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple

from apex_installer.errors import CompileError


@dataclass(frozen=True)
class Compile:
    """One compiler call: an object from a source, or from objects (nvcc's device link)."""

    inputs: Tuple[str, ...]
    output: str
    argv: Tuple[str, ...]


@dataclass(frozen=True)
class Link:
    """One linker call: a module from objects."""

    module: str
    """Import name: `amp_C`."""
    objects: Tuple[str, ...]
    output: str
    argv: Tuple[str, ...]


_ESCAPED = re.compile(r"\$(?:([ :$])|\{([\w.-]+)\}|([\w-]+))")


def _expand(text: str, variables: Mapping[str, str]) -> str:
    return _ESCAPED.sub(
        lambda m: m.group(1) or variables.get(m.group(2) or m.group(3), ""),
        text,
    )


def _split_paths(text: str) -> List[str]:
    """Split on blanks that are not escaped by `$`."""
    return [_expand(part, {}) for part in re.split(r"(?<!\$)\s+", text.strip()) if part]


def parse_ninja(text: str) -> Tuple[Compile, ...]:
    """Every build statement with its command expanded; `default`, `pool` and the like are skipped.

    CompileError where a statement names a rule that the text lacks.
    """
    variables: Dict[str, str] = {}
    rules: Dict[str, str] = {}
    found: List[Compile] = []
    rule = ""
    for line in re.sub(r"\$\n\s*", "", text).splitlines():
        if line.startswith("rule "):
            rule = line[5:].strip()
        elif line.startswith((" ", "\t")):
            name, _, value = line.strip().partition("=")
            if rule and name.strip() == "command":
                rules[rule] = value.strip()
        elif line.startswith("build "):
            found.append(_parse_build(line[6:], rules, variables))
        elif "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            variables[name.strip()] = _expand(value.strip(), variables)
    return tuple(found)


def _parse_build(statement: str, rules: Mapping[str, str], variables: Mapping[str, str]) -> Compile:
    outputs, _, rest = re.sub(r"(?<!\$):", "\n", statement, count=1).partition("\n")
    rule, _, names = rest.strip().partition(" ")
    if rule not in rules:
        raise CompileError(f"setup.py's build.ninja has no rule {rule!r}; is this torch too new?")
    explicit = re.split(r"(?<!\$)\s\|", names)[0]
    inputs, output = _split_paths(explicit), _split_paths(outputs)[0]
    values = {
        **variables,
        "in": " ".join(shlex.quote(one) for one in inputs),
        "out": shlex.quote(output),
    }
    return Compile(tuple(inputs), output, tuple(shlex.split(_expand(rules[rule], values))))


def parse_spawned(
    commands: Iterable[Sequence[str]], *, library_folder: str, extension_suffix: str
) -> Tuple[Tuple[Compile, ...], Tuple[Link, ...]]:
    """Sort what distutils would have started into compiles (with `-c`) and links."""
    compiles, links = [], []
    for argv in commands:
        output = argv[argv.index("-o") + 1] if "-o" in argv else ""
        if "-c" in argv:
            source = argv[argv.index("-c") + 1]
            compiles.append(Compile((source,), output, tuple(argv)))
        elif output:
            file = os.path.relpath(output, library_folder)
            name = file.removesuffix(extension_suffix)
            objects = tuple(part for part in argv if part.endswith(".o"))
            links.append(Link(name.replace(os.sep, "."), objects, output, tuple(argv)))
    return tuple(compiles), tuple(links)
