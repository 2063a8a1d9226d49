"""What the pictures show, apart from the drawing; and the schedule that stands in for machines."""

from __future__ import annotations

from typing import Any

import pytest
from plots import Build, cores_by_kind, label_of, list_once, read_builds
from scaling import runs_wanted
from schedule import read_calls, simulate, simulate_all

CELL = "cp312-torch2.11-cu130-linux_x86_64"


def call(kind: str, start: float, end: float, *, cpu: float = 0, module: str = "m") -> Any:
    cpu = cpu or end - start
    return {"kind": kind, "module": module, "start": start, "end": end, "cpu_seconds": cpu}


@pytest.mark.parametrize(("cores", "seconds"), [(1, 40), (2, 25), (4, 25), (9, 25)])
def test_a_schedule_is_bound_by_work_and_by_the_longest_chain(cores: int, seconds: float) -> None:
    timeline = [
        call("header", 0, 5),
        call("cuda", 0, 10),
        call("cpp", 5, 24, module="n"),
        call("cpp", 5, 10),
        call("link", 24, 25, module="n"),
    ]
    assert simulate(read_calls(timeline), cores) == pytest.approx(seconds)


def test_a_call_that_keeps_several_cores_busy_takes_longer_on_fewer() -> None:
    calls = read_calls([call("cuda", 0, 10, cpu=40)])
    assert [simulate(calls, cores) for cores in (1, 2, 4, 8)] == [40, 20, 10, 10]


def test_what_is_not_compiling_is_the_same_on_every_number_of_cores() -> None:
    run = {"seconds": 15.0, "compile_seconds": 10.0}
    timeline = [call("cuda", 0, 10), call("cuda", 0, 10)]
    assert simulate_all(timeline, run, [1, 2]) == {"1": 25.0, "2": 15.0}


def test_architectures_are_built_on_most_cores() -> None:
    assert runs_wanted(["9.0", "8.0;9.0"], [1, 4, 2]) == [
        ("9.0", 4),
        ("8.0;9.0", 4),
        ("9.0", 2),
        ("9.0", 1),
    ]


def test_cores_are_counted_by_what_is_compiled() -> None:
    moments, (cuda, header, cpp, link) = cores_by_kind(
        [call("cuda", 0, 2, cpu=4), call("cuda", 1, 2), call("cpp", 1, 3)]
    )
    assert moments == [0, 1, 2, 3]
    assert (cuda, cpp) == ([2, 3, 0, 0], [0, 1, 1, 0])
    assert sum(header) == sum(link) == 0


def test_builds_are_read_from_each_result_that_holds_them() -> None:
    cost = {"cpu_seconds": 8.0, "seconds": 5.0}
    further = {"command": "python x --arch '8.0;9.0'", "builds": [{"cell": CELL, **cost}] * 2}
    run = {"arch": "9.0", "cores": 2, **cost}
    scaling = {"cell": CELL, "runs": [run, {**run, "cores": 1}]}
    accepted = {"run": {"command": "python x"}, "our build": cost, "builds": {"wall": {}}}
    assert [(one.arch, one.first) for one in read_builds(further)] == [
        ("8.0;9.0", True),
        ("8.0;9.0", False),
    ]
    alone = [Build(CELL, "9.0", 8.0, 5.0, first=True)]
    assert read_builds(scaling) == read_builds(accepted) == alone


def test_a_build_is_named_by_what_is_new_in_it() -> None:
    first = Build(CELL, "9.0", 1, 1, first=True)
    more = Build(CELL, "8.6;9.0+PTX", 1, 1, first=True)
    further = Build(CELL.replace("cp312", "cp313"), "9.0", 1, 1, first=False)
    assert label_of(first, []) == "torch 2.11 cu130, cp312, 9.0: from nothing"
    assert label_of(more, [first]) == "the same with 8.6, PTX too"
    assert label_of(further, [first]) == "+ cp313"


def test_what_several_results_hold_is_shown_once() -> None:
    first = Build(CELL, "9.0", 1, 1, first=True)
    further = Build(CELL, "9.0", 1, 1, first=False)
    assert list_once([first, further, Build(CELL, "9.0", 2, 2, first=True)]) == [first, further]
