"""The link to the form "want this wheel?"."""

from urllib.parse import parse_qs, quote, urlsplit

import pytest

from apex_installer.model.environment import Gpu
from apex_installer.want import quote as quoted
from apex_installer.want import want_url
from support.wheels import CELL, tiny_environment


@pytest.mark.parametrize("text", ["a b&c=d+e/f?g#h%", "cu121.torch2.4_~-", "ä€𝄞", ""])
def test_values_are_quoted_as_urllib_quotes_them(text: str) -> None:
    assert quoted(text) == quote(text, safe="")


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_form_is_filled_with_the_cell(slash: str) -> None:
    environment = tiny_environment("/t", gpus=(Gpu((8, 9)), Gpu((9, 0))))
    url = urlsplit(want_url(f"https://host.example/a/farm{slash}", environment, ("m", "n")))
    assert (url.netloc, url.path) == ("host.example", "/a/farm/issues/new")
    assert parse_qs(url.query) == {
        "template": ["want-this-wheel.yml"],
        "title": [f"Want this wheel: {CELL}"],
        "cell": [CELL],
        "gpu": ["sm_89 sm_90"],
        "torch": ["2.11.0+cu130"],
        "modules": ["m, n"],
    }
