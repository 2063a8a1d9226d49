"""The commands around the plan, as the command line runs them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support.farm_data import write_data
from support.index_wheels import write_cell_wheel
from wheelbuild import commands
from wheelbuild.cli import main
from wheelbuild.data import load_data
from wheelbuild.known_failures import FILE, note_results, write_failures
from wheelbuild.plan import plan
from wheelbuild.publish import publish
from wheelbuild.run import CellResult
from wheelbuild.serve import IndexServer
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelbuild.plan import Job

FIRST, SECOND, THIRD = (
    "cp310-torch2.4-cu121-linux_x86_64",
    "cp311-torch2.11-cu130-linux_x86_64",
    "cp312-torch2.11-cu130-linux_x86_64",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def farm(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Callable[..., tuple[int, str, str]]:
    """Run a command on the small data and an empty index: exit code, stdout, what was logged."""

    def run(*words: str, index: str = "") -> tuple[int, str, str]:
        caplog.clear()
        where = ["--index", index or str(tmp_path / "index")]
        code = main([words[0], "--data", str(folder), *where, *words[1:]])
        said = capsys.readouterr()
        return code, said.out, "\n".join(caplog.messages) + said.err

    return run


def fail(folder: Path, label: str, *, error: str = "BuildError", index: Path | None = None) -> None:
    """Noted in the data folder, or in an index."""
    (job,) = plan(load_data(folder), cells=[label])
    result = CellResult(
        job=job, state="failed", step="build", said="nvcc said no", seconds=1, error=error
    )
    write_failures(index or folder, note_results((), [result.ending], today="2026-11-26"))


def test_the_matrix_of_a_workflow_is_one_line(farm: Any) -> None:
    code, output, _ = farm("plan", "--json", "--cores", "4")
    assert (code, output.count("\n")) == (0, 1)
    matrix = json.loads(output)
    assert list(matrix) == ["include"]
    assert [(one["name"], one["cells"]) for one in matrix["include"]] == [
        ("torch2.11-cu130", f"{SECOND} {THIRD}"),
        ("torch2.4-cu121", FIRST),
    ]
    assert matrix["include"][1]["minutes"] == 5
    assert matrix["include"][1]["jobs"][0]["why"] == "the first"


def test_what_is_missed_comes_first(farm: Any, tmp_path: Path) -> None:
    misses = tmp_path / "misses.jsonl"
    lines = [{"title": FIRST, "body": ""}, {"title": "cp39-torch2.4-cu121", "body": ""}]
    misses.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    _, output, said = farm("plan", "--json", "--misses", str(misses))
    assert json.loads(output)["include"][0]["jobs"][0]["missed"] == 1
    assert json.loads(output)["include"][0]["name"] == "torch2.4-cu121"
    assert "missed 1 times, and not in matrix.toml: cp39-torch2.4-cu121-linux_x86_64" in said


def test_an_estimate_says_what_is_assumed(farm: Any) -> None:
    _, output, said = farm("plan", "--estimate", "--cores", "16")
    assert "3 to build on 16 cores: about" in said
    assert "assumed: " in said
    assert "download_gb" in output


def test_a_known_failure_is_left_out_and_said(farm: Any, folder: Path) -> None:
    fail(folder, SECOND)
    code, output, said = farm("plan", "--json")
    assert code == 0
    assert SECOND not in output
    assert f"left out until its inputs change: {SECOND}: build failed on 2026-11-26: nvcc" in said


def test_what_an_index_knows_is_left_out_too(farm: Any, folder: Path, tmp_path: Path) -> None:
    """A folder's, and a live one's."""
    fail(folder, SECOND, index=tmp_path / "index")
    (tmp_path / "index/index.html").touch()
    assert SECOND not in farm("plan", "--json")[1]
    with IndexServer(tmp_path / "index") as server:
        code, output, said = farm("plan", "--json", index=server.url)
        assert (code, SECOND in output) == (0, False)
        assert f"left out until its inputs change: {SECOND}: build failed" in said
        assert '"failing"' in farm("coverage", "--json", index=server.url)[1]


def test_force_tries_a_known_failure_again(farm: Any, folder: Path) -> None:
    fail(folder, SECOND)
    assert SECOND in farm("plan", "--json", "--force")[1]


def test_changed_inputs_try_a_known_failure_again(farm: Any, folder: Path) -> None:
    fail(folder, SECOND)
    path = folder / "toolkits.toml"
    path.write_text(path.read_text("utf-8").replace("2" * 64, "3" * 64), encoding="utf-8")
    assert SECOND in farm("plan", "--json")[1]


def test_a_live_index_decides_what_is_fresh_and_which_build_is_next(
    farm: Any, folder: Path, tmp_path: Path
) -> None:
    git = "c" * 40
    store = DirectoryStore(tmp_path / "live")
    for job in plan(load_data(folder))[:2]:
        label, version = job.cell.label, job.version
        made = write_cell_wheel(tmp_path / label, cell=label, version=version)
        entry = replace(made.entry, key=job.key(git), torch_git=git, version=version)
        publish(made.path, entry, store=store)
    with IndexServer(store.directory) as server:
        output = farm("plan", "--json", index=server.url)[1]
        assert [one["cells"] for one in json.loads(output)["include"]] == [THIRD]
        path = folder / "toolkits.toml"
        path.write_text(path.read_text("utf-8").replace("1" * 64, "3" * 64), encoding="utf-8")
        output = farm("plan", "--json", index=server.url)[1]
    jobs = [job for one in json.loads(output)["include"] for job in one["jobs"]]
    assert [(job["cell"], job["build"]) for job in jobs] == [(THIRD, ""), (FIRST, 2)]


def fake_run(monkeypatch: pytest.MonkeyPatch, **states: str) -> list[str]:
    """Cells end as `states` say, by their Python; returns which were tried."""
    tried: list[str] = []

    def run_cells(jobs: tuple[Job, ...], **_: Any) -> tuple[CellResult, ...]:
        tried.extend(job.cell.python for job in jobs)
        return tuple(
            CellResult(
                job=job,
                state=states.get(job.cell.python, "published"),
                step="build",
                said="nvcc said no",
                seconds=1,
                error="BuildError",
            )
            for job in jobs
        )

    monkeypatch.setattr(commands, "run_cells", run_cells)
    return tried


def test_a_failure_is_red_once_and_then_known(
    farm: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = fake_run(monkeypatch, cp311="failed")
    assert farm("run", "cp310", "cp311", "--note-failures")[0] == 3
    assert f'cell = "{SECOND}"' in (folder / FILE).read_text("utf-8")
    code, output, _ = farm("run", "cp310", "cp311", "--note-failures", "--json")
    assert code == 0
    assert tried == ["cp311", "cp310", "cp310"]
    states = {row["cell"]: row["state"] for row in json.loads(output)}
    assert states == {FIRST: "published", SECOND: "known"}


def test_a_success_is_known_no_more(
    farm: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(folder, SECOND)
    fake_run(monkeypatch)
    assert farm("run", SECOND, "--force", "--note-failures")[0] == 0
    assert "[[failures]]" not in (folder / FILE).read_text("utf-8")


def test_without_note_failures_nothing_is_written(
    farm: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_run(monkeypatch, cp311="failed")
    assert farm("run", SECOND)[0] == 3
    assert not (folder / FILE).exists()


def test_run_refuses_an_untrusted_cache_before_it_builds(
    farm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = fake_run(monkeypatch)
    monkeypatch.setattr("shutil.which", lambda program, **_: f"/bin/{program}")
    code, _, errors = farm("run", "cp310", "--compiler-cache", "sccache")
    assert (code, tried) == (2, [])
    assert "use build, or --compiler-cache trusted-sccache" in errors
    assert farm("run", "cp310", "--compiler-cache", "trusted-sccache")[0] == 0
    assert tried == ["cp310"]
