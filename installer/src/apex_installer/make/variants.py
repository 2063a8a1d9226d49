"""Further wheels of a build, each for one architecture: objects pruned, modules linked again.

    <work>/variants/8.0/<wheel>       named like the plain one; the farm's stamp adds the label

Nothing is compiled: every object is the plain wheel's own, less the machine code of all other
architectures. A module without device code is taken as it is.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping

from apex_installer.make.capture import Capture
from apex_installer.make.freshness import Keys, Work
from apex_installer.make.graph import CUDA, LINK, Graph
from apex_installer.make.pack import pack_wheel
from apex_installer.make.progress import Progress
from apex_installer.make.prune import prune_object
from apex_installer.make.request import BuildRequest
from apex_installer.make.run import Made, Ran, Settings, run_graph
from apex_installer.make.store import Store

FOLDER = "variants"
"""In the work folder."""
_LINK_SECONDS = 1.0
"""An estimate for the progress line."""


@dataclass(frozen=True)
class Compiled:
    """What the plain build made, and how links are named."""

    graph: Graph
    made: Made
    store: Store
    keys_in: Callable[[str], Keys]
    """The keys of a build whose links go into the folder that is named."""


def variant_folder(work: str, arch: str) -> str:
    """Where the wheel for `arch` (`8.0`) is put."""
    return os.path.join(work, FOLDER, arch)


def make_variants(
    request: BuildRequest,
    compiled: Compiled,
    *,
    capture: Capture,
    work: str,
    settings: Settings,
    on_progress: Callable[[Progress], None],
) -> List[Ran]:
    """Make a wheel for each architecture of `request.variants`; what was linked.

    What earlier builds left is removed first, also where none is asked for. Errors as of
    `build_wheel`.
    """
    shutil.rmtree(os.path.join(work, FOLDER), ignore_errors=True)
    graph, made = compiled.graph, compiled.made
    ran: List[Ran] = []
    for arch in request.variants:
        scratch = os.path.join(settings.temporary, f"sm{arch}")
        os.makedirs(scratch)
        paths = _prune_all(graph, made.paths, arch=arch, into=os.path.join(scratch, "objects"))
        links = [node for node in graph.of_kind(LINK) if set(node.needs) & set(paths)]
        linked = run_graph(
            Graph(tuple(links)),
            Work({**made.paths, **paths}, tuple(links)),
            store=compiled.store,
            keys=compiled.keys_in(os.path.join(scratch, "modules")),
            seconds={node.name: _LINK_SECONDS for node in links},
            settings=replace(settings, temporary=scratch),
            on_progress=on_progress,
        )
        ran += linked.ran.values()
        modules = {node.module: linked.paths[node.name] for node in graph.of_kind(LINK)}
        pack_wheel(request, capture=capture, modules=modules, out=variant_folder(work, arch))
        shutil.rmtree(scratch)
    return ran


def _prune_all(graph: Graph, paths: Mapping[str, str], *, arch: str, into: str) -> Dict[str, str]:
    """Pruned object by node name; of objects without device code nothing is said."""
    found: Dict[str, str] = {}
    os.makedirs(into)
    for number, node in enumerate(graph.of_kind(CUDA)):
        out = os.path.join(into, f"{number}-{os.path.basename(node.name)}")
        if prune_object(paths[node.name], arch=arch, out=out):
            found[node.name] = out
    return found
