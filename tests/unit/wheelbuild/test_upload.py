"""Where an upload goes and who says so; the upload itself is in `tests/integration`."""

from __future__ import annotations

import base64

import pytest

from wheelbuild.errors import UsageError
from wheelbuild.upload import parse_html, parse_target

CANARY = "canary-5f3a"
WHO = {"TWINE_USERNAME": "me", "TWINE_PASSWORD": CANARY}


def simple_of(to: str) -> str:
    return parse_target(to, environ=WHO, simple_url=None, allow_http=False).simple


@pytest.mark.parametrize(
    ("to", "simple"),
    [
        ("https://wheels.example/legacy/", "https://wheels.example/simple/"),
        ("https://wheels.example/", "https://wheels.example/simple/"),
        ("https://wheels.example", "https://wheels.example/simple/"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/simple/"),
        ("https://wheels.example/a/legacy", "https://wheels.example/a/simple/"),
    ],
)
def test_the_simple_api_is_looked_for_beside(to: str, simple: str) -> None:
    assert simple_of(to) == simple


def test_the_simple_api_may_be_elsewhere() -> None:
    target = parse_target(
        "https://x.example/u/i/",
        environ=WHO,
        simple_url="https://x.example/u/i/+simple",
        allow_http=False,
    )
    assert target.simple == "https://x.example/u/i/+simple/"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (f"https://me:{CANARY}@wheels.example/", "holds credentials"),
        (f"https://{CANARY}@wheels.example/", "holds credentials"),
        ("wheels.example", "not the web address"),
        ("file:///srv/index", "not the web address"),
        ("https://upload.pypi.org/legacy/", "PyPI takes no local versions"),
        ("http://wheels.example/", "unencrypted"),
    ],
)
def test_where_nothing_is_uploaded_to(to: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        simple_of(to)
    assert CANARY not in str(raised.value)


def test_credentials_in_the_simple_url_are_refused_too() -> None:
    with pytest.raises(UsageError, match="holds credentials"):
        parse_target(
            "https://a.example/",
            environ=WHO,
            simple_url=f"https://me:{CANARY}@a.example/",
            allow_http=False,
        )


def test_http_to_elsewhere_can_be_allowed() -> None:
    target = parse_target("http://wheels.example/", environ=WHO, simple_url=None, allow_http=True)
    assert target.url == "http://wheels.example/"


def test_somebody_must_say_who_uploads() -> None:
    with pytest.raises(UsageError, match="set TWINE_USERNAME and TWINE_PASSWORD"):
        parse_target("https://a.example/", environ={}, simple_url=None, allow_http=False)


def test_a_target_never_says_its_password() -> None:
    target = parse_target("https://a.example/", environ=WHO, simple_url=None, allow_http=False)
    header = base64.b64encode(f"me:{CANARY}".encode()).decode()
    assert target.redact(f"{CANARY} and Basic {header}!") == "*** and Basic ***!"
    assert CANARY not in repr(target)


def test_a_html_page_is_read() -> None:
    page = (
        '<a href="../../f/apex-0.1%2Bcu130-py3-none-any.whl#sha256=ab">x</a>'
        '<a name="no href">y</a><a href="https://b.example/b-1-py3-none-any.whl">z</a>'
        '<a href="c-1-py3-none-any.whl#md5=00">z</a>'
    )
    found = parse_html(page, url="https://a.example/simple/apex/")
    assert found == {
        "apex-0.1+cu130-py3-none-any.whl": (
            "https://a.example/f/apex-0.1%2Bcu130-py3-none-any.whl",
            "ab",
        ),
        "b-1-py3-none-any.whl": ("https://b.example/b-1-py3-none-any.whl", None),
        "c-1-py3-none-any.whl": ("https://a.example/simple/apex/c-1-py3-none-any.whl", None),
    }
