import pytest

from apex_installer.make.estimate import chain, estimate, pace, rank, time_left
from apex_installer.make.graph import Graph, Sources, build_graph
from apex_installer.model.arch import Architectures
from support.captures import BUILD, CAPTURE

FRONT = "#include <torch/extension.h>\n"


@pytest.fixture
def graph() -> Graph:
    return build_graph(
        CAPTURE,
        modules=["one", "two"],
        architectures=Architectures.parse("9.0"),
        shim="/s",
        sources=Sources({"/src/one.cpp": FRONT}),
        precompile=True,
    )


def by_label(graph: Graph, values: dict[str, float]) -> dict[str, float]:
    return {node.label: values[node.name] for node in graph.nodes}


def test_a_module_s_figure_is_shared_among_its_objects(graph: Graph) -> None:
    seconds = estimate(graph, seen={}, modules={"two": 100.0, "absent": 5.0})
    mine = [node for node in graph.nodes if node.module == "two"]
    assert sum(seconds[node.name] for node in mine) == pytest.approx(100.0)


def test_what_a_step_took_before_is_the_best_estimate(graph: Graph) -> None:
    seconds = estimate(graph, seen={"one: one_kernel.cu": 7.0}, modules={"one": 500.0})
    assert by_label(graph, seconds)["one: one_kernel.cu"] == 7.0


def test_what_begins_the_longest_chain_ranks_first(graph: Graph) -> None:
    seconds = {node.name: 1.0 for node in graph.nodes} | {f"{BUILD}/temp/one.o": 10.0}
    ranks = by_label(graph, rank(graph, seconds))
    # header, then one.cpp, then the link
    assert ranks["all: precompiled header"] == 12.0
    assert ranks["one: one.cpp"] == 11.0
    assert ranks["one: shared.cu"] == 2.0


def test_the_longest_chain_counts_what_was_run(graph: Graph) -> None:
    taken = {node.name: 1.0 for node in graph.nodes if node.label.startswith("two")}
    assert chain(graph, taken) == 2.0
    assert chain(graph, {}) == 0.0


def test_time_left_is_work_over_width_but_no_less_than_the_longest() -> None:
    assert time_left(waiting=[10, 10, 10, 10], running=[], width=4, pace=1) == 10
    assert time_left(waiting=[10, 10, 10, 10], running=[], width=2, pace=1) == 20
    assert time_left(waiting=[1, 30], running=[], width=16, pace=2) == 60
    assert time_left(waiting=[], running=[(20, 15)], width=2, pace=1) == 5


def test_one_that_is_late_takes_a_tenth_more() -> None:
    assert time_left(waiting=[], running=[(20, 50)], width=1, pace=1) == 5


def test_pace_is_seen_time_over_expected() -> None:
    assert pace([(10, 20), (10, 10)]) == 1.5
    assert pace([]) == 1.0
