"""Which Pythons are looked at, and in what order."""

from __future__ import annotations

from pathlib import Path

import pytest

from apex_installer.errors import UsageError
from apex_installer.read.interpreter import list_candidates


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in an environment below the current folder."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "venv/bin/python"
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize("given", ["venv/bin/python", "venv", "./venv/bin/python"])
def test_a_python_may_be_named_from_the_current_folder(python: Path, given: str) -> None:
    (found,) = list_candidates(python=given, app=[], environ={})
    assert (found.executable, found.why) == (str(python), "--python")


@pytest.mark.parametrize(
    ("app", "environ"),
    [
        (["venv/bin/python", "app.py"], {}),
        ([], {"VIRTUAL_ENV": "venv"}),
        ([], {"CONDA_PREFIX": "venv"}),
        ([], {"PATH": "venv/bin"}),
    ],
    ids=["app", "VIRTUAL_ENV", "CONDA_PREFIX", "PATH"],
)
def test_so_may_all_others(python: Path, app: list[str], environ: dict[str, str]) -> None:
    first, *_ = list_candidates(python=None, app=app, environ={"PATH": "", **environ})
    assert first.executable == str(python)


def test_a_python_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="--python nowhere/python: no such program"):
        list_candidates(python="nowhere/python", app=[], environ={})
