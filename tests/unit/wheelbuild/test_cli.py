from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from apex_installer.errors import TrustError
from apex_installer.errors import UsageError as ThinUsageError
from wheelbuild import cli, commands
from wheelbuild.cli import build_parser, main
from wheelbuild.errors import BuildError, DataError

COMMANDS = [
    *("matrix", "plan", "discover", "build", "repair", "stamp", "test", "publish"),
    *("run", "index", "coverage", "evidence", "serve", "python-only", "sources", "zipapp", "demo"),
    *("jobs", "make", "prove", "gather", "pages", "release-installer", "data"),
]


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (found,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(found.choices)


def test_the_commands_are_these() -> None:
    assert list(subparsers()) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_every_command_says_what_it_does(command: str) -> None:
    parser = subparsers()[command]
    assert parser.description
    assert [
        action.dest for action in parser._actions if action.option_strings and not action.help
    ] == []


@pytest.mark.parametrize("words", ["--data D matrix", "matrix --data D"])
def test_common_flags_stand_before_or_after_the_command(words: str) -> None:
    assert build_parser().parse_args(words.split()).data == Path("D")


def test_data_and_cache_have_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELBUILD_DATA", "d")
    monkeypatch.setenv("WHEELBUILD_CACHE", "c")
    monkeypatch.setenv("WHEELBUILD_INDEX", "i")
    arguments = build_parser().parse_args(["plan"])
    assert (arguments.data, arguments.cache, arguments.index) == (Path("d"), Path("c"), "i")
    assert build_parser().parse_args(["index"]).index == Path("i")


def end_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "_COMMANDS", tuple((fail, ()) for _ in range(1)))
    fail.__name__ = "run_fail"
    return main(["fail"])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BuildError("no g++"), 3, "wheelbuild: no g++\n"),
        (
            DataError("a.toml:1: x\nb.toml:2: y"),
            2,
            "wheelbuild: a.toml:1: x\nwheelbuild: b.toml:2: y\n",
        ),
        (TrustError("bad bytes"), 3, "wheelbuild: bad bytes\n"),
        (ThinUsageError("no such arch"), 2, "wheelbuild: no such arch\n"),
        (KeyboardInterrupt(), 130, "wheelbuild: interrupted\n"),
    ],
    ids=["step", "input", "thin", "thin-usage", "ctrl-c"],
)
def test_an_error_is_one_line_a_fault_and_its_exit_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert end_with(monkeypatch, error) == code
    assert capsys.readouterr().err == said


def test_a_bug_names_its_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli.tempfile, "tempdir", str(tmp_path))
    assert end_with(monkeypatch, ZeroDivisionError("ours")) == 1
    said = capsys.readouterr().err
    assert said.startswith("wheelbuild: a bug of ours: ZeroDivisionError('ours') (log: ")
    (log,) = tmp_path.glob("wheelbuild-bug-*.log")
    assert str(log) in said
    assert "ZeroDivisionError: ours" in log.read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "required: COMMAND"),
        (["nonsense"], "invalid choice"),
        (["build", "CELL", "--jobs", "0"], "not a number above 0"),
        (["matrix", "--dat", "D"], "unrecognized arguments"),
    ],
    ids=["none", "unknown", "jobs", "abbreviation"],
)
def test_a_wrong_command_line_ends_with_2(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert "--help" in said


def test_a_result_is_its_path_or_all_of_it_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    commands._print_result(argparse.Namespace(json=False), wheel=Path("a.whl"), tests={})
    assert capsys.readouterr().out == "a.whl\n"
    commands._print_result(argparse.Namespace(json=True), wheel=Path("a.whl"), tests={})
    assert json.loads(capsys.readouterr().out) == {"wheel": "a.whl", "tests": {}}


@pytest.mark.parametrize(
    ("wheel", "folder"),
    [("w/built/a.whl", "w/stamped"), ("w/repaired/a.whl", "w/stamped"), ("x/a.whl", "x/stamped")],
)
def test_a_step_writes_beside_the_one_before(wheel: str, folder: str) -> None:
    assert commands._step_folder(Path(wheel), "stamped") == Path.cwd() / folder
