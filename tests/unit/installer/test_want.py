"""The link to the form "want this wheel?"."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from apex_installer.model.environment import Gpu
from apex_installer.model.report import Attempt
from apex_installer.want import FORM, want_line, want_url
from apex_installer.want import quote as quoted
from support.wheels import CELL, tiny_environment

REPOSITORY = "https://host.example/a/farm"
DEFAULTS = json.dumps({"repository_url": REPOSITORY})
MISS = Attempt("wheel", "no-wheel", "no wheel for it")
FORMS = Path(__file__).parents[3] / ".github/ISSUE_TEMPLATE"


@pytest.mark.parametrize("text", ["a b&c=d+e/f?g#h%", "cu121.torch2.4_~-", "ä€𝄞", ""])
def test_values_are_quoted_as_urllib_quotes_them(text: str) -> None:
    assert quoted(text) == quote(text, safe="")


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_form_is_filled_with_the_cell(slash: str) -> None:
    environment = tiny_environment("/t", gpus=(Gpu((8, 9)), Gpu((9, 0))))
    url = urlsplit(want_url(f"{REPOSITORY}{slash}", environment, ("m", "n")))
    assert (url.netloc, url.path) == ("host.example", "/a/farm/issues/new")
    assert parse_qs(url.query) == {
        "template": ["want-this-wheel.yml"],
        "title": [f"Want this wheel: {CELL}"],
        "cell": [CELL],
        "gpu": ["sm_89 sm_90"],
        "torch": ["2.11.0+cu130"],
        "modules": ["m, n"],
    }


def test_every_field_that_is_filled_is_in_the_form() -> None:
    """An issue form ignores, without a word, what it has no field for."""
    query = parse_qs(urlsplit(want_url(REPOSITORY, tiny_environment("/t"), ("m",))).query)
    form = (FORMS / FORM).read_text()
    for field in query.keys() - {"template", "title"}:
        assert f"\n    id: {field}\n" in form


def line(
    *attempts: Attempt, defaults: str | None = DEFAULTS, cuda: str | None = "13.0"
) -> str | None:
    return want_line(defaults, tiny_environment("/t", cuda=cuda), ("m",), attempts)


def test_a_miss_is_worth_a_wheel() -> None:
    other = Attempt("compiled", "toolkit", "no g++")
    assert str(line(MISS, other)).startswith(f"want this wheel? {REPOSITORY}/issues/new?template=")


def test_nothing_is_asked_of_nobody_or_for_nothing() -> None:
    assert line(MISS, defaults=None) is None
    assert line(MISS, defaults='{"index_url": "https://x/"}') is None
    assert line(MISS, cuda=None) is None
    assert line() is None
    assert line(Attempt("wheel", "download", "no network")) is None
    assert line(Attempt("wheel", "trust", "bad bytes"), MISS) is None
