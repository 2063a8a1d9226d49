"""What the comparison of stand-ins and compiled modules decides, apart from what it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from standins import COMPILED, PYTHON_ONLY, block_faults, judge, read_cases, read_versions, relate
from standins import speed_table as table

if TYPE_CHECKING:
    from pathlib import Path

REPORT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="test_x.TestX" name="test_good"/>
<testcase classname="test_x.TestX" name="test_bad"><failure message="AssertionError: not close!

Mismatched elements: 1 / 2
Greatest absolute difference: 3
Greatest relative difference: 4
And more">trace</failure></testcase>
<testcase classname="test_x.TestX" name="test_left_out"><skipped message="one GPU"/></testcase>
</testsuite></testsuites>"""


def test_a_failure_keeps_the_assertion_and_its_figures() -> None:
    cases = read_cases(REPORT.replace("\n", "&#10;").replace("&#10;<", "\n<"), "run_x")
    assert cases["run_x::test_x.TestX::test_good"] == "passed"
    assert cases["run_x::test_x.TestX::test_bad"] == (
        "failure: AssertionError: not close! | Mismatched elements: 1 / 2 | "
        "Greatest absolute difference: 3 | Greatest relative difference: 4"
    )
    assert cases["run_x::test_x.TestX::test_left_out"] == "skipped: one GPU"


@pytest.mark.parametrize(("lost", "met"), [(5, True), (6, False)])
def test_ninety_five_of_a_hundred_that_pass_with_compiled_modules(lost: int, met: bool) -> None:
    compiled = {f"t{number}": "passed" for number in range(100)} | {"skipped": "skipped: why"}
    standins = {name: ended for name, ended in compiled.items() if name not in ("t0", "t1")}
    standins |= {f"t{number}": "failure: E" for number in range(2, lost)}
    found = judge(compiled, standins)
    assert found["share"] == (100 - lost) / 100
    assert found["met"] is met
    assert found["lost"]["t0"] == "did not run"
    assert found["lost"]["t4"] == "failure: E"
    assert found["pass with neither"] == {"skipped": "skipped: why"}


def test_tests_that_were_not_told_apart_are_never_met() -> None:
    found = judge({"a": "passed", "run_x::0/2 (exit 3)": "error: E"}, {"a": "passed"})
    assert found["share"] == 1
    assert found["crashed"] == ["run_x::0/2 (exit 3)"]
    assert found["met"] is False


def test_nothing_that_passes_is_nothing_that_is_met() -> None:
    assert judge({"t": "failure: E"}, {"t": "passed"})["met"] is False


def test_times_are_related_case_by_case() -> None:
    rows = relate({"a": 2.0, "b": 0.5}, {"a": 3.0, "b": 0.25})
    assert [row["times"] for row in rows] == [1.5, 0.5]
    assert table(rows).splitlines()[2] == "| a | 2.0 | 3.0 | 1.5 |"
    with pytest.raises(KeyError):
        relate({"a": 2.0}, {})


def a_block(**changes: object) -> dict[str, Any]:
    return {
        "module": "fused_layer_norm_cuda.so",
        "stand-in": False,
        "entered": {"rms_forward": 1, "rms_forward_affine": 3},
        "output": "(2, 2) torch.bfloat16",
        "finite": True,
        "input untouched": True,
        **changes,
    }


def test_blocks_are_comparable_only_if_each_ran_what_it_is_named_for() -> None:
    standin = a_block(**{"stand-in": True})
    assert block_faults({COMPILED: a_block(), PYTHON_ONLY: standin}) == []
    for blocks, said in (
        ({COMPILED: standin}, "ran on"),
        ({PYTHON_ONLY: a_block()}, "ran on"),
        ({COMPILED: a_block(entered={"rms_forward": 0})}, "was not entered"),
        ({COMPILED: a_block(finite=False)}, "not finite"),
        ({COMPILED: a_block(), PYTHON_ONLY: {**standin, "output": "(2, 2) float"}}, "differ"),
    ):
        (fault,) = block_faults(blocks)
        assert said in fault


def test_installs_are_named_by_their_own_metadata(tmp_path: Path) -> None:
    (tmp_path / "one/apex-0.1+20260707.python.dist-info").mkdir(parents=True)
    found = read_versions({"one": tmp_path / "one", "other": tmp_path})
    assert found["one"] == "0.1+20260707.python"
    assert found["other"] == "unknown"
