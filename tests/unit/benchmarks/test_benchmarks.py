"""What the benchmarks decide, apart from what they run: ratios, outcomes, counts, tables."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from build_apex import compare, compare_sizes, count_written
from cold_start import judge
from further_python import count_steps
from further_python import judge as judge_pythons
from gpu_acceptance import compare_outcomes, read_outcomes
from measure import Cost, format_table, summarize
from symbol_check import IMPORTED, LDD, OPENED, OURS
from symbol_check import judge as judge_check
from symbol_check import summarize as summarize_check
from variants import judge as judge_variants
from variants import write_data

if TYPE_CHECKING:
    from pathlib import Path


def cost(seconds: float, *, cpu: float = 1.0, peak: float = 10.0) -> Cost:
    return Cost(seconds=seconds, cpu_seconds=cpu, peak_mib=peak, status=0)


def test_builds_are_held_to_wall_cpu_and_floor() -> None:
    found = compare(cost(160, cpu=1600), cost(90, cpu=1100), chain=60, jobs=16)
    assert found["wall, ours / README"] == {"value": 0.5625, "limit": 0.6, "met": True}
    assert found["CPU-seconds, ours / README"]["met"]
    floor = found["wall / max(CPU-seconds / cores, longest chain)"]
    assert floor == {"value": round(90 / 68.75, 4), "limit": 1.25, "met": False}


def variant_cost(build: float, steps: float) -> dict[str, object]:
    step = "all steps on what was built"
    return {"build": {"cpu_seconds": build}, step: {"cpu_seconds": steps}}


def test_variants_are_held_to_the_builds_cpu_and_the_whole_is_told() -> None:
    found = judge_variants(variant_cost(100, 20), variant_cost(109, 71))
    assert found["build"] == {"value": 1.09, "limit": 1.1, "met": True}
    assert found["build and all steps"] == {"value": 1.5}
    assert not judge_variants(variant_cost(100, 20), variant_cost(111, 20))["build"]["met"]


def test_every_cell_of_a_measured_folder_asks_for_variants_or_none_does(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "matrix.toml").write_text("[[cells]]\nvariants = true\na = 1\n[[cells]]\nb = 2\n")
    found = {
        asked: (write_data(given, into=tmp_path / str(asked), variants=asked) / "matrix.toml")
        for asked in (True, False)
    }
    assert found[False].read_text() == "[[cells]]\na = 1\n[[cells]]\nb = 2\n"
    assert found[True].read_text().count("[[cells]]\nvariants = true\n") == 2


def test_without_a_timeline_nothing_is_said_of_the_floor() -> None:
    found = compare(cost(160, cpu=1600), cost(90, cpu=1300), chain=None, jobs=16)
    assert list(found) == ["wall, ours / README", "CPU-seconds, ours / README"]
    assert not found["CPU-seconds, ours / README"]["met"]


@pytest.mark.parametrize(("slim", "verdict"), [(3_100_000, "met"), (3_900_000, "not met")])
def test_a_tenth_of_the_bytes(slim: int, verdict: str) -> None:
    found = compare_sizes(slim, 38_000_000, 9_000_000)
    assert found["bytes, slim / README"]["met"] is (verdict == "met")
    assert found["bytes, slim / README with -g0"] == {"value": round(slim / 9_000_000, 4)}


def test_medians_spread_and_the_largest_peak() -> None:
    found = summarize([cost(3, peak=5), cost(1, peak=9), cost(2, peak=7)])
    assert (found["median"], found["min"], found["max"], found["peak_mib"]) == (2, 1, 3, 9)


@pytest.mark.parametrize(
    ("ours", "already", "peak", "unmet"),
    [
        (0.15, 0.08, 30, set()),
        (0.30, 0.08, 30, {"slim", "readme"}),
        (0.15, 0.11, 46, {"already, ms", "peak memory, MiB"}),
    ],
    ids=["met", "slow", "late and large"],
)
def test_cold_start_is_held_to_every_limit(
    ours: float, already: float, peak: float, unmet: set[str]
) -> None:
    names = {
        "slim": "apex-install, slim wheel / uv, slim wheel",
        "readme": "apex-install, slim wheel / uv, README wheel",
    }
    warm = {
        "apex-install, slim wheel": {"median": ours, "peak_mib": peak},
        "uv, README wheel": {"median": 0.57},
        "uv, slim wheel": {"median": 0.15},
    }
    found = judge({"warm": warm, "already": {"median": already}})
    missed = {name for name, verdict in found.items() if not verdict["met"]}
    assert missed == {names.get(name, name) for name in unmet}


@pytest.mark.parametrize(("seconds", "met"), [(0.050, True), (0.051, False)])
def test_a_symbol_check_is_held_to_its_limit_and_set_beside_who_loads(
    seconds: float, met: bool
) -> None:
    ours = {OURS: {"wall": seconds, "cpu": 0.03, "import": 0.002}}
    load = {IMPORTED: {"wall": 4.0, "cpu": 3.0}, OPENED: {"wall": 0.01, "cpu": 0.01}}
    found = summarize_check([ours, load, {LDD: {"wall": 0.5, "cpu": 0.5}}])
    assert found[OURS]["median"] == 1000 * seconds
    assert found[OURS]["import"] == 2.0
    verdict = judge_check({"warm": found})
    assert verdict.pop(f"{OURS}, warm, ms")["met"] is met
    assert [one["value"] for one in verdict.values()] == [
        pytest.approx(seconds / other, abs=1e-4) for other in (4.0, 0.01, 0.5)
    ]


REPORT = """<testsuites><testsuite>
<testcase classname="test_x.A" name="good"/>
<testcase classname="test_x.A" name="bad"><failure message="first line&#10;second"/></testcase>
<testcase classname="test_x.A" name="left"><skipped message="more than 1 GPU required"/></testcase>
</testsuite></testsuites>"""


def test_outcomes_are_read_from_a_junit_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert read_outcomes(report, "run_mlp") == {
        "run_mlp::test_x.A::good": "passed",
        "run_mlp::test_x.A::bad": "failure: first line",
        "run_mlp::test_x.A::left": "skipped: more than 1 GPU required",
    }


def test_a_test_that_ours_alone_fails_or_never_ran_is_lost() -> None:
    readme = {"run_mlp::a": "passed", "run_mlp::b": "passed", "run_mlp::c": "failure: x"}
    ours = {"run_mlp::a": "failure: y", "run_mlp::c": "failure: z"}
    found = compare_outcomes(readme, ours)
    assert found["lost"] == {"run_mlp::a": "failure: y", "run_mlp::b": "did not run"}
    assert found["others"] == {"run_mlp::c": {"README": "failure: x", "ours": "failure: z"}}
    assert found["passed"]["run_mlp"] == {"README": "2 of 3", "ours": "0 of 2"}


def test_only_files_written_since_count(tmp_path: Path) -> None:
    now = time.time()
    for name, age in (("old.o", 100), ("new.o", 0), ("new.so", 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    assert count_written(tmp_path, ".o", since=now - 10) == 1


def test_a_table_is_markdown() -> None:
    assert format_table([["a", "b"], [1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |\n"


def test_a_further_python_is_held_to_its_share_and_to_no_device_code() -> None:
    def built(cell: str, seconds: float, *kinds: str) -> dict[str, object]:
        timeline = [{"kind": kind, "cpu_seconds": 1.0} for kind in kinds]
        return {"cell": cell, "cpu_seconds": seconds, **count_steps(timeline)}

    first = built("a", 100, "cuda", "cpp", "link")
    found = judge_pythons(
        [first, built("b", 30, "cpp", "link"), built("c", 31, "cpp"), built("d", 20, "cuda")]
    )
    assert [(cell, row["met"], row["device_objects"]) for cell, row in found.items()] == [
        ("b", True, 0),
        ("c", False, 0),
        ("d", False, 1),
    ]
