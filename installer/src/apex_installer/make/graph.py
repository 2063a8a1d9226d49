"""From captured commands to one graph over all modules: what is compiled, and how it is ordered.

Pure. A node's command names the outputs of other nodes by the captured paths, to which nothing is
ever written; `place` puts the real paths in when the node is started.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from apex_installer.errors import CompileError
from apex_installer.make.capture import Capture
from apex_installer.make.commands import Compile, Link
from apex_installer.make.flags import (
    for_architectures,
    with_all_dependencies,
    without_debug,
    without_includes,
    without_pairs,
    without_run_path,
)
from apex_installer.model.arch import Architectures

CUDA = "cuda"
CPP = "cpp"
LINK = "link"
HEADER = "header"

HEADER_SOURCE = "#include <torch/extension.h>\n"
EXTENSION = "torch/extension.h"
SHIM_SOURCE = "#pragma once\n#include <torch/types.h>\n"
"""What device code needs of torch/extension.h: tensors. Not Python.h, not the C++ frontend
(torch::nn, …): those are half of the compile."""
SHIMS = {EXTENSION: SHIM_SOURCE, "torch/torch.h": SHIM_SOURCE}
"""Stand-ins by name. With BuildExtension's flags torch/torch.h means torch/extension.h too."""

_INCLUDE = re.compile(r"^\s*#\s*include\s*<([^>]+)>")
_NEEDS_PYTHON = re.compile(r"\b(PYBIND11_MODULE|pybind11|THPVariable\w*|PyObject)\b")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Node:
    """One compiler or linker call."""

    name: str
    """Its output as captured: what other nodes' commands say for it."""
    kind: str
    """`cuda`, `cpp`, `header` (precompiled) or `link`."""
    argv: Tuple[str, ...]
    source: str = ""
    """The file compiled; empty for a link."""
    needs: Tuple[str, ...] = ()
    """Names of the nodes whose outputs it reads."""
    module: str = ""
    """Import name; of an object that several modules link, the first one's."""
    plain: Tuple[str, ...] = ()
    """The captured command, tried where `argv` fails: code that does need Python's headers."""
    header: str = ""
    """Name of the header node that may stand in for parsing torch/extension.h, or empty."""

    @property
    def label(self) -> str:
        """For people: `amp_C: multi_tensor_adam.cu`."""
        what = {LINK: "link", HEADER: "precompiled header"}.get(self.kind)
        return f"{self.module or 'all'}: {what or os.path.basename(self.source)}"


@dataclass(frozen=True)
class Graph:
    """All nodes, each after those it needs."""

    nodes: Tuple[Node, ...]

    def named(self) -> Dict[str, Node]:
        """By name."""
        return {node.name: node for node in self.nodes}

    def of_kind(self, kind: str) -> Tuple[Node, ...]:
        """In order."""
        return tuple(node for node in self.nodes if node.kind == kind)


@dataclass(frozen=True)
class Sources:
    """What the graph has to know of the source's files."""

    texts: Mapping[str, str]
    """Of each captured source file, by path."""
    own_includes: Tuple[str, ...] = ()
    """The source's include folders that torch's headers find nothing in."""


def build_graph(
    capture: Capture,
    *,
    modules: Sequence[str],
    architectures: Optional[Architectures],
    shim: str,
    sources: Sources,
    precompile: bool,
    strip: bool = False,
) -> Graph:
    """The graph that makes `modules` for `architectures`.

    `shim` is the folder that holds the stand-ins, `precompile` whether the
    C++ compiler is gcc. CompileError names modules that setup.py does not make with these flags,
    and device code without architectures.
    """
    links = _choose_links(capture, modules)
    compiles = {one.output: one for one in capture.compiles}
    owners: Dict[str, str] = {}
    for link in links:
        _own(link.objects, link.module, compiles=compiles, owners=owners)
    nodes: List[Node] = []
    for output, module in owners.items():
        compile_ = compiles[output]
        if _is_cuda(compile_):
            if architectures is None:
                raise CompileError(f"{module} has device code, but no architecture is asked for")
            nodes.append(
                _cuda_node(
                    compile_,
                    module,
                    architectures=architectures,
                    shim=shim,
                    python_includes=capture.facts["python_includes"],
                    text=sources.texts.get(compile_.inputs[0], ""),
                    among=owners,
                )
            )
        else:
            nodes.append(_cpp_node(compile_, module))
    if precompile:
        nodes = _with_header(nodes, build=capture.build, sources=sources)
    nodes += [_link_node(link, owners, strip=strip) for link in links]
    return Graph(tuple(nodes))


def _choose_links(capture: Capture, modules: Sequence[str]) -> List[Link]:
    missing = sorted(set(modules) - set(capture.modules))
    if missing:
        raise CompileError(
            f"setup.py does not make {', '.join(missing)} with these flags; it makes "
            f"{', '.join(sorted(capture.modules)) or 'no module'}"
        )
    return [link for link in capture.links if link.module in modules]


def _own(
    objects: Sequence[str],
    module: str,
    *,
    compiles: Mapping[str, Compile],
    owners: Dict[str, str],
) -> None:
    """Note who needs each object; those that a device link reads come before it."""
    for name in objects:
        if name in compiles and name not in owners:
            _own(compiles[name].inputs, module, compiles=compiles, owners=owners)
            owners[name] = module


def _is_cuda(one: Compile) -> bool:
    return one.inputs[0].endswith(".cu") or os.path.basename(one.argv[0]) == "nvcc"


def _cuda_node(
    one: Compile,
    module: str,
    *,
    architectures: Architectures,
    shim: str,
    python_includes: Sequence[str],
    text: str,
    among: Mapping[str, str],
) -> Node:
    plain = for_architectures(with_all_dependencies(one.argv), architectures)
    needs = tuple(name for name in one.inputs if name in among)
    if needs or _NEEDS_PYTHON.search(_COMMENT.sub("", text)):
        return Node(one.output, CUDA, plain, one.inputs[0], needs, module)
    slim = without_includes(plain, python_includes)
    slim = (slim[0], f"-I{shim}", *slim[1:])
    return Node(one.output, CUDA, slim, one.inputs[0], (), module, plain=plain)


def _cpp_node(one: Compile, module: str) -> Node:
    argv = (*without_debug(with_all_dependencies(one.argv)), "-g0")
    return Node(one.output, CPP, argv, one.inputs[0], (), module)


def _link_node(link: Link, among: Mapping[str, str], *, strip: bool) -> Node:
    argv = without_run_path(link.argv)
    if strip:
        argv = (*argv, "-s")
    needs = tuple(name for name in link.objects if name in among)
    return Node(link.output, LINK, argv, needs=needs, module=link.module)


def takes_header(text: str) -> bool:
    """Whether torch/extension.h may be read before everything else of this source.

    It may where only includes of other libraries' headers and comments come before it: no macro,
    no condition, no line of code, no header of the source's own that could change its meaning.
    """
    for line in _COMMENT.sub("", text).splitlines():
        if not line.strip():
            continue
        include = _INCLUDE.match(line)
        if not include:
            return False
        if include.group(1) == EXTENSION:
            return True
    return False


def _with_header(nodes: Sequence[Node], *, build: str, sources: Sources) -> List[Node]:
    """Add one precompiled header per set of flags, and let the sources that may use it know."""
    headers: Dict[Tuple[str, ...], Node] = {}
    result: List[Node] = []
    for node in nodes:
        if node.kind != CPP or not takes_header(sources.texts.get(node.source, "")):
            result.append(node)
            continue
        flags = _shared_flags(node, sources.own_includes)
        if flags not in headers:
            name = os.path.join(build, f"header-{len(headers)}", "torch_extension.h")
            argv = (
                *flags[:1],
                "-x",
                "c++-header",
                *flags[1:],
                "-MD",
                "-MF",
                f"{name}.gch.d",
                "-c",
                name,
                "-o",
                f"{name}.gch",
            )
            headers[flags] = Node(f"{name}.gch", HEADER, argv, name)
        header = headers[flags]
        argv = (node.argv[0], "-Werror=invalid-pch", "-include", header.source, *node.argv[1:])
        result.append(
            Node(
                node.name,
                CPP,
                argv,
                node.source,
                (),
                node.module,
                plain=node.argv,
                header=header.name,
            )
        )
    return [*headers.values(), *result]


def _shared_flags(node: Node, own_includes: Sequence[str]) -> Tuple[str, ...]:
    """The line without what names this source or this module.

    torch's headers never read TORCH_EXTENSION_NAME; gcc would refuse the header if they did.
    """
    argv = without_includes(without_pairs(node.argv, ("-o", "-MF")), own_includes)
    return tuple(
        part
        for part in argv
        if part not in {"-c", "-MD", node.source} and not part.startswith("-DTORCH_EXTENSION_NAME=")
    )


def include_folders(argv: Iterable[str]) -> Tuple[str, ...]:
    """The folders of `-I` in its joined spelling, which is the one that torch writes."""
    return tuple(part[2:] for part in argv if part.startswith("-I") and len(part) > len("-I"))


def may_shadow(names: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a folder of these names could give torch's headers another file than without it.

    It could where it holds a name that another include folder has, or a file without an ending, as
    the C++ library's own headers are named. Folders end in `/`.
    """
    known = set(others)
    return any(name in known or not (name.endswith("/") or "." in name) for name in names)


def place(argv: Sequence[str], paths: Mapping[str, str]) -> Tuple[str, ...]:
    """The command with real paths for captured ones; `<output>.d` is the depfile beside it."""
    return tuple(_place(part, paths) for part in argv)


def _place(part: str, paths: Mapping[str, str]) -> str:
    if part.endswith(".d") and part[:-2] in paths:
        return f"{paths[part[:-2]]}.d"
    return paths.get(part, part)
