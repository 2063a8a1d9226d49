"""Arguments and variables in, request or one line and exit code 2 out."""

import pytest

from apex_installer import cli
from apex_installer.errors import UsageError
from apex_installer.model.request import Request


def request_of(*words: str, **variables: str) -> Request:
    environ = {f"APEX_INSTALL_{name}": value for name, value in variables.items()}
    values, faults = cli.join_variables(cli.parse_words(words), environ)
    return cli.build_request(values, (), faults)


def test_nothing_said_means_install_with_the_defaults() -> None:
    assert request_of() == Request()


def test_every_flag_has_its_variable() -> None:
    by_flag = request_of(
        "--index-url=https://x/", "--require=FusedAdam,default", "--deadline=5", "--offline"
    )
    by_variable = request_of(
        INDEX_URL="https://x/", REQUIRE="FusedAdam, default", DEADLINE="5", OFFLINE="1"
    )
    assert by_flag == by_variable
    assert by_flag.require == ("FusedAdam", "default")


def test_a_flag_wins_over_its_variable() -> None:
    assert request_of("--python", "/a", PYTHON="/b").python == "/a"


def test_the_background_has_a_variable_alone() -> None:
    assert request_of(BACKGROUND="1").background
    assert not request_of(BACKGROUND="0").background
    with pytest.raises(UsageError, match="APEX_INSTALL_BACKGROUND='maybe' is neither 1 nor 0"):
        request_of(BACKGROUND="maybe")
    with pytest.raises(UsageError, match="--background"):
        request_of("--background")


def test_an_empty_variable_says_nothing() -> None:
    assert request_of(INDEX_URL="", OFFLINE="") == Request()


def test_flags_are_not_abbreviated() -> None:
    with pytest.raises(UsageError, match="--index"):
        request_of("--index", "https://x/")


def test_a_command_is_one_of_the_closed_list() -> None:
    with pytest.raises(UsageError, match="'instal' is none of the commands install, doctor"):
        request_of("instal")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        request_of("--keep-foreign", "--replace-foreign", "--run", DEADLINE="soon", OFFLINE="yep")
    for word in ("--keep-foreign", "--run belongs to check", "--deadline 'soon'", "'yep'"):
        assert word in str(caught.value)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_deadline_is_a_number_of_seconds(seconds: str) -> None:
    with pytest.raises(UsageError, match="--deadline"):
        request_of("--deadline", seconds)


def test_at_least_from_a_variable_is_held_to_its_words() -> None:
    with pytest.raises(UsageError, match="python-only, compiled, wheel"):
        request_of(AT_LEAST="best")


def test_usage_is_one_greppable_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--no-such-flag"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("apex: none (usage: ")
    assert "--no-such-flag" in line


def test_the_apps_command_is_cut_off_at_the_two_dashes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []
    monkeypatch.setattr(cli, "_run", lambda request, _values: seen.append(request) or 0)
    cli.main(["--offline", "--", "python3", "app.py", "--offline"])
    assert seen[0].app == ("python3", "app.py", "--offline")
