"""Which nodes have to be run: those whose command, compiler or inputs are not what they were."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple

from apex_installer.errors import CompileError
from apex_installer.make.graph import HEADER, LINK, Graph, Node
from apex_installer.make.store import Places, Store, read_identity

HEADER_PAYS = 4
"""From so many sources on a precompiled header costs less CPU time than it saves: making it takes
about two parses of torch/extension.h, each use saves a bit less than one."""


def remove_outdated(modules: str, *, kept: Iterable[str]) -> None:
    """Remove links of the same modules that other objects made; their objects stay."""
    paths = set(kept)
    names = {os.path.basename(path) for path in paths}
    for key in os.listdir(modules) if os.path.isdir(modules) else []:
        folder = os.path.join(modules, key)
        for name in names & set(os.listdir(folder)):
            if os.path.join(folder, name) not in paths:
                shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Work:
    """What is there already, and what is to be done."""

    ready: Mapping[str, str]
    """Path by node name, of what is up to date."""
    stale: Tuple[Node, ...]
    """In the graph's order; headers only where they pay."""


class Keys:
    """Keys of commands and links in one environment."""

    def __init__(self, store: Store, places: Places, *, modules: str, path: str, salt: str) -> None:
        """`modules` is where links go, `path` is PATH, `salt` names torch's build."""
        self._store = store
        self._places = places
        self._modules = modules
        self._path = path
        self._salt = salt
        self._compilers: Dict[str, str] = {}

    def command(self, node: Node) -> str:
        """Of a compile. The precompiled header is not part of it: it changes no object."""
        argv = node.plain if node.header else node.argv
        # The build folder of a capture is new each time.
        named = [part.replace(node.name, "{out}") for part in argv]
        return self._store.command_key(named, compiler=self._identity(argv[0]))

    def module_path(self, node: Node, objects: Mapping[str, str]) -> str:
        """Where the link of these objects lies, made or not."""
        inputs = [objects[name] for name in node.needs]
        names = dict(zip(node.needs, map(self._store.name_of, inputs)))
        argv = [names.get(part, part.replace(node.name, "{out}")) for part in node.argv]
        encoded = [self._places.encode(part) for part in argv]
        text = json.dumps([self._salt, self._identity(node.argv[0]), *encoded])
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return os.path.join(self._modules, key, os.path.basename(node.name))

    def _identity(self, program: str) -> str:
        if program not in self._compilers:
            found = shutil.which(program, path=self._path)
            if found is None:
                raise CompileError(f"{program}: not found on PATH, but setup.py would start it")
            self._compilers[program] = read_identity(found)
        return self._compilers[program]


def find_work(graph: Graph, *, store: Store, keys: Keys) -> Work:
    """Look every node up; nothing is started."""
    ready: Dict[str, str] = {}
    stale: List[Node] = []
    for node in graph.nodes:
        if node.kind == HEADER:
            continue
        if node.kind == LINK:
            made = all(name in ready for name in node.needs)
            path = keys.module_path(node, ready) if made else ""
            path = path if os.path.exists(path) else ""
        else:
            # A device link reads objects, not files that a depfile names: always run again.
            path = "" if node.needs else store.find(keys.command(node)) or ""
        if path:
            ready[node.name] = path
        else:
            stale.append(node)
    return Work(ready, (*_headers_that_pay(graph, stale), *stale))


def _headers_that_pay(graph: Graph, stale: Sequence[Node]) -> List[Node]:
    users = [node.header for node in stale if node.header]
    return [node for node in graph.of_kind(HEADER) if users.count(node.name) >= HEADER_PAYS]
