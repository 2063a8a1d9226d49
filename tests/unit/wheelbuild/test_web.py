"""Pages from the web: bounded, by ranges, and with a server's own word on when to come again."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from support.replay import ReplayServer
from wheelbuild import web
from wheelbuild.errors import IndexReadError
from wheelbuild.serve import IndexServer
from wheelbuild.web import Web


def test_a_page_says_what_it_is_and_where() -> None:
    with ReplayServer({"/a": ("Text/HTML; charset=utf-8", b"abc")}) as server:
        page = Web().get(f"{server.url}/a")
    assert page is not None
    assert (page.content, page.kind, page.url) == (b"abc", "text/html", f"{server.url}/a")


def test_what_is_not_there_is_none() -> None:
    with ReplayServer({}) as server:
        assert Web().get(f"{server.url}/a") is None


def test_a_part_of_a_file_and_its_size() -> None:
    with ReplayServer({"/a": ("text/plain", b"0123456789")}) as server:
        url = f"{server.url}/a"
        assert Web().size(url) == 10
        page = Web().get(url, span="2-4")
    assert page is not None
    assert page.content == b"234"


def test_more_than_a_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_SIZE", 100)
    with (
        ReplayServer({"/a": ("text/plain", b"x" * 101)}) as server,
        pytest.raises(IndexReadError, match="not a page"),
    ):
        Web().get(f"{server.url}/a")


def test_a_server_without_ranges_is_said(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text("0123456789")
    monkeypatch.setattr("wheelbuild.serve.parse_range", lambda *_: None)
    with IndexServer(tmp_path) as server, pytest.raises(IndexReadError, match="no ranges"):
        Web().size(f"{server.url}index.html")


@pytest.mark.parametrize(("said", "seconds"), [("2", 2.0), ("9999", web.MAX_PAUSE), ("soon", 0.0)])
def test_a_server_may_say_when(said: str, seconds: float) -> None:
    answer = requests.Response()
    answer.headers["Retry-After"] = said
    assert web._retry_after(answer) == seconds


def test_pauses_double(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with (
        ReplayServer({}, failures={"/a": [503] * 4}) as server,
        pytest.raises(IndexReadError, match="HTTP 503"),
    ):
        Web(pause=0.5).get(f"{server.url}/a")
    assert slept == [0.5, 1.0, 2.0]


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "READ", 0.1)
    with ReplayServer({}) as silent:
        monkeypatch.setattr(silent.RequestHandlerClass, "do_GET", lambda _: time.sleep(1))
        with pytest.raises(IndexReadError, match="no answer in time"):
            Web(tries=1).get(f"{silent.url}/a")
