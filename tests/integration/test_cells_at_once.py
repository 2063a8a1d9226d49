"""Programs of cells that are worked on at the same time: whose lines are whose, how all end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from wheelbuild import command
from wheelbuild.command import end_commands, run_command, run_streamed
from wheelbuild.errors import CommandError
from wheelbuild.telling import told_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

CELL = "cp311-torch2.11-cu130-linux_x86_64"


def test_a_shown_programs_lines_stand_behind_its_cell(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["sh", "-c", "echo one >&2; echo two >&2; echo out"]
    with told_for(CELL):
        ran = run_command(words, show=True)
    assert ran.output == "out\n"
    assert capfd.readouterr().err == f"{CELL}: one\n{CELL}: two\n"
    run_command(words, show=True)
    assert capfd.readouterr().err == "one\ntwo\n"


def test_a_streamed_programs_lines_too_but_not_in_its_log(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with told_for(CELL):
        run_streamed(["/bin/echo", "one"], cwd=tmp_path, environ={}, log=tmp_path / "log")
    assert capfd.readouterr().err == f"{CELL}: one\n"
    assert (tmp_path / "log").read_text() == "one\n"


def test_what_other_threads_run_is_ended_and_nothing_more_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "_over", threading.Event())
    said: list[str] = []

    def run() -> None:
        for _ in range(2):
            try:
                run_command(["sleep", "60"])
            except CommandError as error:
                said.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and not any(
        process.args == ("sleep", "60") for process in list(command._running)
    ):
        time.sleep(0.01)
    end_commands()
    thread.join(timeout=30)
    assert said == [
        "sleep ended with -15: it said nothing",
        "sleep was not started: the run is being ended",
    ]
