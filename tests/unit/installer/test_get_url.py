from __future__ import annotations

from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_installer.errors import TrustError, UsageError
from apex_installer.get.url import Url


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path"),
    [
        ("https://a.example", "https", "a.example", 443, "/"),
        ("http://127.0.0.1:8000/x/y?z=1#f", "http", "127.0.0.1", 8000, "/x/y?z=1"),
        ("http://[::1]:80/x", "http", "[::1]", 80, "/x"),
        ("HTTP://A.Example/x".replace("HTTP", "http"), "http", "a.example", 80, "/x"),
        ("file:///srv/a%20b", "file", "", 0, "/srv/a%20b"),
        ("file://localhost/srv", "file", "", 0, "/srv"),
        ("https://a.example?x=1", "https", "a.example", 443, "/?x=1"),
    ],
)
def test_parse(text: str, scheme: str, host: str, port: int, path: str) -> None:
    url = Url.parse(text)
    assert (url.scheme, url.host, url.port, url.path) == (scheme, host, port, path)
    assert Url.parse(url.text) == url


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a/x",
        "/srv/index",
        "a.example/x",
        "https://a\r\nHost: b/",
        "https://a b/",
        "file://other-host/x",
        "https:///x",
        "javascript:alert(1)",
        "https://a:99999999/",
        "",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(UsageError):
        Url.parse(text)


def test_a_bare_path_is_told_how_to_write_it() -> None:
    with pytest.raises(UsageError, match="write file:///srv/index"):
        Url.parse("/srv/index")


def test_credentials_and_queries_are_not_shown() -> None:
    url = Url.parse("https://me:s%40cret@a.example/x?token=abc")
    assert url.credentials == "me:s%40cret"
    assert url.shown == "https://a.example/x?…"
    with pytest.raises(UsageError) as caught:
        Url.parse("ftp://me:secret@a.example/x")
    assert "secret" not in str(caught.value)


def test_file_path_is_decoded() -> None:
    assert Url.parse("file:///srv/a%20b/%C3%A9").file_path == "/srv/a b/é"


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"], ids=lambda host: host
)
def test_loopback(host: str) -> None:
    assert Url.parse(f"http://{host}/").is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1.example", "localhost.example", "10.0.0.1", "[::2]"])
def test_not_loopback(host: str) -> None:
    assert not Url.parse(f"http://{host}/").is_loopback


segments = st.lists(st.sampled_from(["a", "b", "..", ".", "c.whl"]), min_size=1, max_size=6)


@given(base=segments, reference=segments, absolute=st.booleans(), slash=st.booleans())
def test_joins_as_the_standard_library_does(
    *, base: list[str], reference: list[str], absolute: bool, slash: bool
) -> None:
    start = "http://h.example/" + "/".join(part for part in base if part not in (".", ".."))
    text = ("/" if absolute else "") + "/".join(reference) + ("/" if slash else "")
    assert Url.parse(start).joined(text).text == Url.parse(urljoin(start, text)).text


@pytest.mark.parametrize(
    ("reference", "joined"),
    [
        ("//other.example/x", "https://other.example/x"),
        ("http://other.example/x", "http://other.example/x"),
        ("?q", "https://h.example/a/b?q"),
        ("", "https://h.example/a/b?old"),
        ("c#sha256=1", "https://h.example/a/c"),
    ],
)
def test_joins(reference: str, joined: str) -> None:
    assert Url.parse("https://h.example/a/b?old").joined(reference).text == joined


@pytest.mark.parametrize("reference", ["javascript:x", "ftp://a/b", "a\r\nb", "a b"])
def test_a_bad_reference_is_the_documents_fault(reference: str) -> None:
    with pytest.raises(TrustError, match="bad address"):
        Url.parse("https://h.example/a/").joined(reference)
