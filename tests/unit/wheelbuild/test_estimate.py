"""Minutes, downloads and disk before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apex_installer.model.arch import Architectures
from support.farm_data import small_data
from wheelbuild import estimate
from wheelbuild.data import load_data
from wheelbuild.estimate import NOTHING, cpu_seconds, estimate_jobs, estimate_text
from wheelbuild.plan import plan

if TYPE_CHECKING:
    from pathlib import Path

    from wheelbuild.data import FarmData


@pytest.fixture
def data(tmp_path: Path) -> FarmData:
    return small_data(tmp_path)


def test_each_further_architecture_costs_a_part_of_the_first(data: FarmData) -> None:
    one, three = (plan(data, cells=["cp310"], arch=arch)[0] for arch in ("9.0", "8.0;9.0+PTX"))
    assert cpu_seconds(one) == estimate.HEADER_SECONDS + 150.5
    assert three.architectures == Architectures(("8.0", "9.0"), ("9.0",))
    expected = estimate.HEADER_SECONDS + 150.5 * (1 + 2 * estimate.PER_ARCHITECTURE)
    assert cpu_seconds(three) == pytest.approx(expected)


def test_what_cells_share_is_counted_once(data: FarmData) -> None:
    first, second, third = estimate_jobs(plan(data), toolkits=data.toolkits, cores=4)
    assert second.download - third.download == pytest.approx(
        estimate.TORCH_LIBRARIES + estimate.SOURCE + 44
    )
    assert second.disk - third.disk == pytest.approx(44 * (1 + estimate.UNPACKED) + estimate.SOURCE)
    assert first.download == second.download


def test_a_further_python_compiles_no_device_code(data: FarmData) -> None:
    jobs = plan(data)
    _, second, third = estimate_jobs(jobs, toolkits=data.toolkits, cores=4)
    assert second.cpu_seconds == cpu_seconds(jobs[1])
    expected = estimate.HEADER_SECONDS + 2 * estimate.FURTHER_SECONDS
    assert third.cpu_seconds == pytest.approx(expected)
    assert third.minutes < second.minutes


def test_other_modules_or_architectures_are_compiled_anew(data: FarmData) -> None:
    (first,) = plan(data, cells=["cp311"])
    fewer: list[dict[str, Any]] = [{"arch": "9.0"}, {"only": ["norm"]}]
    for asked in fewer:
        (other,) = plan(data, cells=["cp312"], **asked)
        _, second = estimate_jobs([first, other], toolkits=data.toolkits, cores=4)
        assert second.cpu_seconds == cpu_seconds(other)


def test_it_agrees_with_a_build_that_was_measured() -> None:
    """All 12 modules for 9.0 on 16 cores: 1,268 CPU-seconds, 99 s (benchmarks, 2026-11-24)."""
    data = load_data()
    job = plan(data, cells=["cp312-torch2.11-cu130"], arch="9.0")
    (found,) = estimate_jobs(job, toolkits=data.toolkits, cores=16)
    assert found.cpu_seconds == pytest.approx(1268, rel=0.15)
    assert (found.minutes - estimate.FIXED_MINUTES) * 60 == pytest.approx(99, rel=0.15)


def test_more_cores_are_fewer_minutes(data: FarmData) -> None:
    jobs = plan(data)
    (few, *_), (many, *_) = (
        estimate_jobs(jobs, toolkits=data.toolkits, cores=cores) for cores in (2, 16)
    )
    assert few.cpu_seconds == many.cpu_seconds
    assert few.minutes - estimate.FIXED_MINUTES == pytest.approx(
        8 * (many.minutes - estimate.FIXED_MINUTES)
    )


def test_the_total_in_words(data: FarmData) -> None:
    total = sum(estimate_jobs(plan(data), toolkits=data.toolkits, cores=4), NOTHING)
    text = estimate_text(total, jobs=3, cores=4)
    assert text.startswith("3 to build on 4 cores: about 15 minutes (0.2 CPU-hours), ")
    assert text.endswith(" GB of disk")
