"""The account of a build: `build.json` beside the objects, and the timings of the next estimate."""

from __future__ import annotations

import json
import os
import resource
from typing import Any, Dict, List, Mapping, Sequence

from apex_installer.make.capture import Capture
from apex_installer.make.estimate import chain
from apex_installer.make.freshness import Keys
from apex_installer.make.graph import CUDA, HEADER, LINK, Graph
from apex_installer.make.prepare import Tools
from apex_installer.make.request import BuildRequest
from apex_installer.make.run import Made
from apex_installer.make.store import Store
from apex_installer.make.width import Width

TIMINGS = "timings.json"
BUILD = "build.json"


def cpu_seconds() -> float:
    """User and system time of this process and of all its children that have ended."""
    return sum(
        use.ru_utime + use.ru_stime
        for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def read_timings(work: str) -> Dict[str, float]:
    """CPU-seconds by label, of earlier builds in this work folder."""
    try:
        with open(os.path.join(work, TIMINGS), encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError):
        return {}
    return {str(label): float(seconds) for label, seconds in data.items()}


def write_timings(work: str, made: Made) -> None:
    """Add what this build took."""
    new = {one.label: one.cpu_seconds for one in made.ran.values()}
    write_json(os.path.join(work, TIMINGS), {**read_timings(work), **new})


def account_of(
    request: BuildRequest,
    *,
    capture: Capture,
    graph: Graph,
    made: Made,
    tools: Tools,
    width: Width,
    objects: Sequence[Mapping[str, Any]],
) -> Dict[str, Any]:
    """What was done and how; the steps' times are added by the flow."""
    taken = {name: one.end - one.start for name, one in made.ran.items()}
    return {
        "schema": 1,
        "cell": request.cell,
        "version": request.version,
        "modules": sorted(request.modules),
        "architectures": request.architectures,
        "interpreter": capture.facts,
        "toolkit": None if tools.toolkit is None else vars(tools.toolkit),
        "compiler": {"cxx": tools.compiler.cxx, "version": tools.compiler.version},
        "variables_left_out": list(tools.removed),
        "width": {"jobs": width.jobs, "why": width.why},
        "objects": list(objects),
        "timeline": [one.to_json() for one in sorted(made.ran.values(), key=lambda o: o.start)],
        "longest_chain": round(chain(graph, taken), 3),
    }


def describe_objects(graph: Graph, *, store: Store, keys: Keys) -> List[Mapping[str, Any]]:
    """Per object: its command, whether it was taken as captured, whether it read Python.h."""
    found: List[Mapping[str, Any]] = []
    for node in graph.nodes:
        if node.kind in {LINK, HEADER}:
            continue
        command = keys.command(node)
        plain = store.was_plain(command) or not node.plain
        found.append(
            {
                "label": node.label,
                "device": node.kind == CUDA,
                # Whether device code had to be compiled with Python's headers.
                "as_captured": plain and node.kind == CUDA,
                "reads_python": reads_python(store.inputs(command)),
                "command": list(node.plain if plain and node.plain else node.argv),
            }
        )
    return found


def reads_python(inputs: Sequence[str]) -> bool:
    """Whether a depfile names Python's own header."""
    return any(os.path.basename(path) == "Python.h" for path in inputs)


def write_json(path: str, data: Mapping[str, Any]) -> None:
    """By one rename."""
    part = f"{path}.part"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.write("\n")
    os.replace(part, path)
