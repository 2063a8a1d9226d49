"""What a run says on its page."""

from __future__ import annotations

from wheelbuild.made import Made, cut_off
from wheelbuild.summary import NO_GPU, first_error, summarize_plan, summarize_results

GOOD = Made(cell="cp310-a", state="published", step="publish", said="apex.whl", seconds=1)
BAD = Made(cell="cp311-b", state="failed", step="build", said="\n a.cu:1: x | y\nlater", seconds=1)
URL = "https://someone.github.io/farm/"


def test_each_failing_cell_is_named_with_its_first_error() -> None:
    text = summarize_results([GOOD, BAD], pages_url=URL)
    assert "## 1 published, 1 failed" in text
    assert "| cp311-b | build | a.cu:1: x \\| y |" in text
    assert "later" not in text
    assert "| cp310-a | published | untested | apex.whl |" in text


def test_without_a_gpu_it_says_untested() -> None:
    assert NO_GPU in summarize_results([GOOD], pages_url=URL)
    on_gpu = Made(**{**{n: getattr(GOOD, n) for n in Made.__slots__}, "gpu": "NVIDIA H100"})
    assert NO_GPU not in summarize_results([on_gpu], pages_url=URL)


def test_what_a_compiler_says_is_text_and_no_markup() -> None:
    made = Made(cell="c", state="failed", step="build", said="<img src=x> @all `x`", seconds=0)
    text = summarize_results([made], pages_url=URL)
    assert "<img" not in text
    assert "@all" not in text


def test_nothing_to_do_is_said() -> None:
    assert "Nothing to build" in summarize_results([], pages_url=URL)


def test_a_cell_without_a_result_is_bad() -> None:
    assert cut_off("c").is_bad


def test_the_plan_says_what_waits_for_the_next_run() -> None:
    assert "1 to build, 2 in the index and fresh, 3 left" in summarize_plan(["c"], fresh=2, left=3)


def test_the_first_error_fits_a_table() -> None:
    assert len(first_error("x" * 9999)) == 500
    assert first_error(" \n") == "it said nothing"


def test_the_plan_names_what_is_known_not_to_build() -> None:
    text = summarize_plan(["c"], fresh=0, left=0, known=["cp39-x: nvcc <died>"])
    assert "- cp39-x: nvcc &lt;died>" in text
    assert "Known" not in summarize_plan(["c"], fresh=0, left=0)
