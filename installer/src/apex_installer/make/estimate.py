"""How long each node will take: for the order (long ones first) and the time left. Pure."""

from __future__ import annotations

from typing import Dict, Iterable, Mapping, Sequence, Tuple

from apex_installer.make.graph import CPP, CUDA, HEADER, LINK, Graph, Node

_DEFAULT = {CUDA: 40.0, CPP: 25.0, HEADER: 30.0, LINK: 0.5}
_WITH_HEADER = 12.0
"""CPU-seconds on one core of a common server; only their proportions matter for the order."""


def estimate(
    graph: Graph, *, seen: Mapping[str, float], modules: Mapping[str, float]
) -> Dict[str, float]:
    """CPU-seconds by node name.

    Best is what a node took before (`seen`, by label); else the recipe's figure of its module,
    shared among the module's objects in the usual proportions; else the usual figure.
    """
    found = {node.name: _usual(node) for node in graph.nodes}
    for module, seconds in modules.items():
        mine = [node for node in graph.nodes if node.module == module]
        usual = sum(found[node.name] for node in mine)
        for node in mine:
            found[node.name] *= seconds / usual
    found.update({node.name: seen[node.label] for node in graph.nodes if node.label in seen})
    return found


def _usual(node: Node) -> float:
    return _WITH_HEADER if node.header else _DEFAULT[node.kind]


def rank(graph: Graph, seconds: Mapping[str, float]) -> Dict[str, float]:
    """Seconds from a node's start to the end of the longest chain that it begins."""
    ranks: Dict[str, float] = {}
    followers: Dict[str, float] = {}
    for node in reversed(graph.nodes):
        ranks[node.name] = seconds[node.name] + followers.get(node.name, 0.0)
        for name in (*node.needs, *([node.header] if node.header else [])):
            followers[name] = max(followers.get(name, 0.0), ranks[node.name])
    return ranks


def time_left(
    *, waiting: Sequence[float], running: Sequence[Tuple[float, float]], width: int, pace: float
) -> float:
    """Seconds until all is done: work over width, but not less than the longest that is left.

    `waiting` are estimates, `running` pairs of estimate and seconds passed; `pace` is wall seconds
    per estimated second as seen so far. One that is late is taken to need a tenth more.
    """
    begun = [max(pace * one - passed, passed / 10) for one, passed in running]
    rest = [pace * one for one in waiting]
    longest = max([*rest, *begun], default=0.0)
    return max((sum(rest) + sum(begun)) / max(width, 1), longest)


def pace(taken: Iterable[Tuple[float, float]]) -> float:
    """Wall seconds per estimated one, from (estimate, seconds); 1 before anything is known.

    Nodes that run and are late belong to it, those that may yet be in time do not.
    """
    pairs = list(taken)
    expected = sum(one for one, _ in pairs)
    return sum(seconds for _, seconds in pairs) / expected if expected > 0 else 1.0


def chain(graph: Graph, taken: Mapping[str, float]) -> float:
    """Seconds of the longest chain of dependent nodes, of those that were run (`taken`)."""
    ends: Dict[str, float] = {}
    for node in graph.nodes:
        before = [*node.needs, *([node.header] if node.header else [])]
        ends[node.name] = taken.get(node.name, 0.0) + max(
            (ends.get(name, 0.0) for name in before), default=0.0
        )
    return max(ends.values(), default=0.0)
