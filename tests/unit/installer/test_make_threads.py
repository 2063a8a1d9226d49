"""Threads for one long object: only where it is long, and no more than it can use."""

from __future__ import annotations

import pytest

from apex_installer.make.threads import choose_threads, count_architectures, with_threads

THREE = (
    "nvcc",
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_86,code=sm_86",
    "-gencode=arch=compute_90,code=sm_90",
    "-gencode=arch=compute_90,code=compute_90",
    "-c",
    "a.cu",
)
ONE = ("nvcc", "-gencode=arch=compute_90,code=sm_90", "-c", "a.cu")


def test_ptx_of_an_architecture_that_is_compiled_anyway_is_no_further_one() -> None:
    assert count_architectures(THREE) == 3
    assert count_architectures(ONE) == 1
    assert count_architectures(("nvcc", "-c", "a.cu")) == 1


@pytest.mark.parametrize(
    ("chain", "threads"), [(143.0, 3), (81.0, 3), (79.0, 1), (10.0, 1)], ids=str
)
def test_an_object_of_nearly_its_share_of_the_work_is_long(chain: float, threads: int) -> None:
    assert choose_threads(THREE, chain=chain, left=1600.0, width=16, free=16) == threads


def test_it_takes_no_place_that_is_not_free() -> None:
    assert choose_threads(THREE, chain=143.0, left=1600.0, width=16, free=2) == 2
    assert choose_threads(THREE, chain=143.0, left=1600.0, width=16, free=1) == 1


def test_one_at_a_time_is_one_at_a_time() -> None:
    assert choose_threads(THREE, chain=50.0, left=50.0, width=1, free=1) == 1


def test_the_only_object_left_gets_all_that_it_can_use() -> None:
    assert choose_threads(THREE, chain=50.0, left=50.0, width=8, free=8) == 3


def test_one_architecture_has_nothing_to_share_out() -> None:
    assert choose_threads(ONE, chain=143.0, left=143.0, width=16, free=16) == 1


@pytest.mark.parametrize("option", ["--threads=4", "--threads", "-t", "-t=4"])
def test_what_the_source_itself_asks_for_stands(option: str) -> None:
    assert choose_threads((*THREE, option), chain=9.0, left=9.0, width=16, free=16) == 1


def test_a_line_without_threads_stays_as_it_is() -> None:
    assert with_threads(ONE, 1) == ONE
    assert with_threads(ONE, 3)[-1] == "--threads=3"
