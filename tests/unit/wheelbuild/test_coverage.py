"""Of each wanted cell: published, tested on which GPU, failing and why, or missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer.model.entry import Entry
from support.farm_data import small_data
from support.index_wheels import write_cell_wheel
from wheelbuild.cli import main
from wheelbuild.coverage import cover, coverage_page, coverage_text
from wheelbuild.known_failures import KnownFailure, inputs_digest, write_failures
from wheelbuild.plan import plan
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from wheelbuild.data import FarmData
    from wheelbuild.plan import Job

FIRST, SECOND, THIRD = (
    "cp310-torch2.4-cu121-linux_x86_64",
    "cp311-torch2.11-cu130-linux_x86_64",
    "cp312-torch2.11-cu130-linux_x86_64",
)
GPU = {"gpu": "NVIDIA H200", "driver": "570.1"}
GIT = "c" * 40


@pytest.fixture
def data(tmp_path: Path) -> FarmData:
    return small_data(tmp_path / "data")


def entry(tmp_path: Path, job: Job, **changes: Any) -> Entry:
    made = write_cell_wheel(tmp_path / "wheels", cell=job.cell.label)
    fields = {
        "version": job.version,
        "key": job.key(GIT),
        "torch_git": GIT,
        "url": "files/x.whl",
        "tests": {"gpu": "untested"},
    }
    return replace(made.entry, **{**fields, **changes})


def failure(job: Job, error: str = "nvcc said <b>no</b>") -> KnownFailure:
    return KnownFailure(
        cell=job.cell.label,
        version=job.version,
        inputs=inputs_digest(job),
        step="build",
        error=error,
        since="2026-11-26",
    )


def states(data: FarmData, *entries: Entry, known: tuple[KnownFailure, ...] = ()) -> list[str]:
    return [one.state for one in cover(data, entries, known)]


def test_nothing_published_is_all_missing(data: FarmData) -> None:
    found = cover(data, (), ())
    assert [(one.cell, one.state, one.why) for one in found] == [
        (FIRST, "missing", "the first"),
        (SECOND, "missing", "the second"),
        (THIRD, "missing", "the second"),
    ]
    assert coverage_text(found) == ("3 wanted: 0 tested, 0 untested, 0 stale, 0 failing, 3 missing")


def test_each_state(data: FarmData, tmp_path: Path) -> None:
    first, second, third = plan(data)
    tested, untested = entry(tmp_path, first, tests=GPU), entry(tmp_path, second)
    assert states(data, tested, untested) == ["tested", "untested", "missing"]
    stale = entry(tmp_path, second, key="0" * 64)
    assert states(data, stale, known=(failure(third),)) == ["missing", "stale", "failing"]
    assert states(data, stale, known=(failure(second),)) == ["missing", "failing", "missing"]
    assert states(data, untested, known=(failure(second),))[1] == "untested"


def test_a_variant_is_named_beside_its_wheel_and_is_no_cell(data: FarmData, tmp_path: Path) -> None:
    second = plan(data)[1]
    plain = entry(tmp_path, second)
    variant = replace(plain, variant="sm90", file="x-sm90.whl", sha256="9" * 64)
    assert states(data, variant) == ["missing", "missing", "missing"]
    found = cover(data, [variant, plain], ())
    assert [one.variants for one in found] == [(), ("sm90",), ()]
    assert found[1].file == plain.file
    assert "also sm90 alone" in coverage_page(found, data.matrix.exclusions).decode()


def test_what_holds_a_part_of_a_cell_is_named_and_leaves_it_missing(
    data: FarmData, tmp_path: Path
) -> None:
    second = plan(data)[1]
    version = f"{second.version}.sm90"
    part = entry(tmp_path, second, version=version, suffix="sm90", url="files/part.whl")
    newer = replace(part, url="files/newer.whl", uploaded="9999-01-01T00:00:00Z")
    gone = replace(part, version=f"{second.version}.norm", suffix="norm", yanked="bad")
    found = cover(data, [newer, part, gone], ())
    assert [(one.state, one.parts) for one in found] == [
        ("missing", ()),
        ("missing", (("sm90", "files/newer.whl"),)),
        ("missing", ()),
    ]
    page = coverage_page(found, data.matrix.exclusions).decode()
    assert 'in part: <a href="files/newer.whl">sm90</a>' in page


def test_a_cell_that_lacks_a_variant_is_not_stale(tmp_path: Path) -> None:
    asked = ("matrix.toml", 'why = "the second"', 'why = "the second"\nvariants = true')
    data = small_data(tmp_path / "data", asked)
    second = plan(data)[1]
    assert second.variants
    assert states(data, entry(tmp_path, second))[1] == "untested"


def test_a_wheel_of_an_older_ref_is_stale_and_there(data: FarmData, tmp_path: Path) -> None:
    older = entry(tmp_path, plan(data)[1], version="0.1+20200101.cu130.torch2.11")
    found = cover(data, [older], ())[1]
    assert (found.state, found.file) == ("stale", older.file)


def test_a_cell_says_gpu_yank_and_failure(data: FarmData, tmp_path: Path) -> None:
    first, second, _ = plan(data)
    yanked = entry(tmp_path, first, tests=GPU, yanked="bad")
    one, two, _ = cover(data, [yanked], (failure(second),))
    assert one.evidence == "NVIDIA H200, driver 570.1, yanked"
    assert two.why == "build failed on 2026-11-26: nvcc said <b>no</b>"


def test_the_page_says_it_all_and_escapes(data: FarmData, tmp_path: Path) -> None:
    first, second, _ = plan(data)
    found = cover(data, [entry(tmp_path, first, tests=GPU)], (failure(second),))
    page = coverage_page(found, data.matrix.exclusions).decode()
    assert "3 wanted: 1 tested, 0 untested, 0 stale, 1 failing, 1 missing" in page
    assert "NVIDIA H200, driver 570.1" in page
    assert '<a href="files/x.whl">tested</a>' in page
    assert "nvcc said &lt;b&gt;no&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "no modules without the GIL" in page
    rows = re.findall(r"<tr><th>(2\.\d+)</th><th>(cu\d+)</th>", page)
    assert rows == [("2.11", "cu130"), ("2.4", "cu121")]


def test_the_command_writes_the_page_beside_the_others(
    data: FarmData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_failures(data.directory, [failure(plan(data)[2])])
    index = tmp_path / "index"
    made = entry(tmp_path, plan(data)[0], url="files/x/x.whl")
    DirectoryStore(index).put_entry(made)
    assert main(["index", "--index", str(index)]) == 0
    assert b"coverage.html" not in (index / "index.html").read_bytes()
    capsys.readouterr()
    words = ["coverage", "--data", str(data.directory), "--index", str(index), "--json"]
    assert main([*words, "--write", "--out", str(tmp_path / "page.html")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in rows] == ["untested", "missing", "failing"]
    page = (index / "coverage.html").read_bytes()
    assert page == (tmp_path / "page.html").read_bytes()
    assert b'href="files/x/x.whl"' in page
    assert (index / "cu121/torch2.4/install-cp310.json").is_file()
    assert main(["index", "--index", str(index)]) == 0
    assert (index / "coverage.html").read_bytes() == page
    assert b'<a href="coverage.html">' in (index / "index.html").read_bytes()


def test_a_live_index_cannot_be_written(data: FarmData, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["coverage", "--data", str(data.directory), "--index", "https://example.invalid/x"]
    assert main([*words, "--write"]) == 2
    assert "--out FILE" in capsys.readouterr().err
