"""What a server can do wrong while a document is fetched: an answer in time, whatever it does."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from apex_installer.deadline import Deadline
from apex_installer.errors import DeadlineError, DownloadError, InstallError, TrustError, UsageError
from apex_installer.get import http
from apex_installer.get.http import Fetcher, NotFoundError
from support import fault_server as faults
from support.fault_server import FaultServer

if TYPE_CHECKING:
    from pathlib import Path

BODY = b"all of it " * 50
LIMIT = 4096


class Pauses(list):
    """Stands in for sleep."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fetch(handler: faults.Handler, *, seconds: float = 5, limit: int = LIMIT) -> bytes:
    with (
        FaultServer({"/x": handler, "/ok": faults.answer(BODY)}) as server,
        Fetcher(allow_http=False, deadline=Deadline(seconds), pause=Pauses()) as fetcher,
    ):
        return fetcher.fetch(f"{server.url}/x", limit=limit)


GOOD = {
    "plain": faults.answer(BODY),
    "chunked": faults.chunked(BODY),
    "no-length": faults.unannounced(BODY),
    "redirect": faults.redirect("/ok"),
    "redirect-308": faults.redirect("ok", "308 Permanent Redirect"),
    "early-hints": faults.raw(
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
        + BODY
    ),
    "503-then-well": faults.then(faults.status("503 Busy"), faults.answer(BODY)),
    "cut-off-then-well": faults.then(faults.truncated(BODY), faults.answer(BODY)),
    "reset-then-well": faults.then(faults.reset_after(b"", announced=10), faults.answer(BODY)),
    "same-length-twice": faults.raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\ncontent-length: 500\r\n\r\n" + BODY
    ),
}


@pytest.mark.parametrize("handler", GOOD.values(), ids=GOOD)
def test_is_fetched(handler: faults.Handler) -> None:
    assert fetch(handler) == BODY


BAD: dict[str, tuple[faults.Handler, type[InstallError], str]] = {
    "404": (faults.status("404 Not Found"), NotFoundError, "not there"),
    "410": (faults.status("410 Gone"), NotFoundError, "not there"),
    "401": (faults.status("401 Unauthorized"), DownloadError, "HTTP 401; put user:token@"),
    "500": (faults.status("500 Oops"), DownloadError, r"HTTP 500 \(tried 4 times\)"),
    "304": (faults.status("304 Not Modified"), DownloadError, "HTTP 304"),
    "truncated": (faults.truncated(BODY), DownloadError, "cut off, 1 of 501 bytes are missing"),
    "closed": (faults.raw(b""), DownloadError, "closed the connection"),
    "reset": (faults.reset_after(b"", announced=1), DownloadError, "(?i)reset"),
    "reset-in-body": (faults.reset_after(BODY, announced=600), DownloadError, "(?i)reset"),
    "garbage": (faults.raw(b"\x16\x03\x01 garbage\r\n\r\n"), DownloadError, "not an HTTP answer"),
    "chunks-cut-off": (faults.chunked(BODY, ends=False), DownloadError, "closed"),
    "bad-chunk": (
        faults.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        DownloadError,
        "bad chunk length",
    ),
    "long-chunk": (
        faults.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n"),
        DownloadError,
        "longer than it says",
    ),
    "unknown-encoding": (
        faults.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        DownloadError,
        "unknown transfer encoding",
    ),
    "gzip": (faults.answer(BODY, Content_Encoding="gzip"), DownloadError, "sent as 'gzip'"),
    "negative-length": (
        faults.raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
        DownloadError,
        "malformed Content-Length",
    ),
    "two-lengths": (
        faults.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        DownloadError,
        "malformed Content-Length",
    ),
    "folded-header": (faults.raw(b"HTTP/1.1 200 OK\r\n x: y\r\n\r\n"), DownloadError, "malformed"),
    "endless-head": (faults.endless(head=True), DownloadError, "head is endless"),
    "endless-body": (faults.endless(), TrustError, "longer than 4096 bytes"),
    "too-long": (faults.endless(announced=5000), TrustError, "longer than 4096 bytes"),
    "redirect-loop": (faults.redirect("/x"), DownloadError, "more than 5 redirects"),
    "redirect-nowhere": (faults.status("302 Found"), DownloadError, "more than 5 redirects"),
    "redirect-to-file": (faults.redirect("file:///etc/passwd"), TrustError, "less safe place"),
    "redirect-to-script": (faults.redirect("javascript:x"), TrustError, "bad address"),
    "redirect-to-http": (faults.redirect("http://h.example/x"), TrustError, "--allow-http"),
}


@pytest.mark.parametrize(("handler", "error", "says"), BAD.values(), ids=BAD)
def test_is_refused(handler: faults.Handler, error: type[InstallError], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        fetch(handler)
    assert "\n" not in str(caught.value)
    assert "/x" in str(caught.value) or "h.example" in str(caught.value)


SLOW = {
    "drip": faults.drip(BODY),
    "drip-in-head": faults.drip(BODY, head=True),
    "silent": faults.silent(),
    "silent-after-head": faults.silent(head=True),
    "endless-503": faults.status("503 Busy"),
}


@pytest.mark.parametrize("name", SLOW)
def test_never_outlives_the_deadline(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ATTEMPTS", 10**6)
    started = time.monotonic()
    with pytest.raises(DeadlineError, match="time budget"):
        fetch(SLOW[name], seconds=0.5)
    assert time.monotonic() - started < 5  # of a loaded machine; a drip would last for minutes


def test_a_listener_that_accepts_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)  # noqa: FBT003 - the standard library's own signature
            one.connect_ex(("127.0.0.1", port))
        started = time.monotonic()
        with (
            pytest.raises((DeadlineError, DownloadError)),
            Fetcher(allow_http=False, deadline=Deadline(0.5)) as fetcher,
        ):
            fetcher.fetch(f"http://127.0.0.1:{port}/x", limit=LIMIT)
        assert time.monotonic() - started < 5  # of a loaded machine; a drip would last for minutes
        for one in waiting:
            one.close()


def test_name_lookup_cannot_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> list[object]:
        time.sleep(3)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    with (
        pytest.raises(DeadlineError, match=r"looking up index\.example"),
        Fetcher(allow_http=True, deadline=Deadline(0.3)) as fetcher,
    ):
        fetcher.fetch("http://index.example/x", limit=LIMIT)
    assert time.monotonic() - started < 2.5


def test_an_unknown_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with (
        pytest.raises(DownloadError, match=r"cannot look up index\.example: Name or service"),
        Fetcher(allow_http=True, deadline=Deadline(5), pause=Pauses()) as fetcher,
    ):
        fetcher.fetch("http://index.example/x", limit=LIMIT)


def test_unreachable_says_where() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with (
        pytest.raises(DownloadError, match=rf"cannot connect to 127.0.0.1:{port}: Connection ref"),
        Fetcher(allow_http=False, deadline=Deadline(5), pause=Pauses()) as fetcher,
    ):
        fetcher.fetch(f"http://127.0.0.1:{port}/x", limit=LIMIT)


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("0", 0.0, 0.2), ("2", 2.0, 2.0), ("86400", 1.0, 2.5), ("soon", 0.0, 0.2), ("-5", 0.0, 0.2)],
)
def test_retry_after_is_heard_up_to_a_part_of_what_is_left(
    asked: str, least: float, most: float
) -> None:
    pauses = Pauses()
    handler = faults.then(faults.status("503 Busy", Retry_After=asked), faults.answer(BODY))
    with (
        FaultServer({"/x": handler}) as server,
        Fetcher(allow_http=False, deadline=Deadline(10), pause=pauses) as fetcher,
    ):
        assert fetcher.fetch(f"{server.url}/x", limit=LIMIT) == BODY
    assert len(pauses) == 1
    assert least <= pauses[0] <= most


def test_plain_http_stays_on_this_machine() -> None:
    with (
        pytest.raises(UsageError, match=r"http://10.0.0.1/x: plain http .* --allow-http"),
        Fetcher(allow_http=False, deadline=Deadline(5)) as fetcher,
    ):
        fetcher.fetch("http://10.0.0.1/x", limit=LIMIT)


def test_one_connection_serves_two_requests() -> None:
    with (
        FaultServer({"/x": faults.answer(BODY), "/y": faults.chunked(BODY)}) as server,
        Fetcher(allow_http=False, deadline=Deadline(5)) as fetcher,
    ):
        for path in ("/x", "/y", "/x"):
            assert fetcher.fetch(server.url + path, limit=LIMIT) == BODY
        assert server.connections == 1


def test_a_kept_connection_that_died_is_made_anew() -> None:
    handlers = {"/x": faults.then(faults.answer(BODY), faults.raw(b""), faults.answer(BODY))}
    with (
        FaultServer(handlers) as server,
        Fetcher(allow_http=False, deadline=Deadline(5), pause=Pauses()) as fetcher,
    ):
        for _ in range(2):
            assert fetcher.fetch(f"{server.url}/x", limit=LIMIT) == BODY
        assert server.connections == 2


def test_credentials_go_to_their_own_host_alone_and_into_no_error() -> None:
    with (
        FaultServer({"/ok": faults.answer(BODY), "/bad": faults.status("403 No")}) as second,
        FaultServer(
            {"/x": faults.redirect(f"{second.url}/ok"), "/y": faults.redirect(f"{second.url}/bad")}
        ) as first,
        Fetcher(allow_http=False, deadline=Deadline(5)) as fetcher,
    ):
        url = first.url.replace("http://", "http://me:s%40cret@")
        assert fetcher.fetch(f"{url}/x", limit=LIMIT) == BODY
        assert "Authorization: Basic bWU6c0BjcmV0" in first.heads[0]
        assert "Authorization" not in second.heads[0]
        with pytest.raises(DownloadError) as caught:
            fetcher.fetch(f"{url}/y", limit=LIMIT)
        assert "cret" not in str(caught.value)


def test_credentials_are_remembered_for_their_origin_and_written_nowhere() -> None:
    with (
        FaultServer({"/i/d": faults.answer(BODY), "/w": faults.answer(BODY)}) as server,
        Fetcher(allow_http=False, deadline=Deadline(5)) as fetcher,
    ):
        index = server.url.replace("http://", "http://me:secret@") + "/i/d"
        wheel = fetcher.join(index, "/w")
        assert wheel == f"{server.url}/w"
        fetcher.fetch(wheel, limit=LIMIT)
        assert "Authorization: Basic" in server.heads[0]


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(BODY)
    with Fetcher(allow_http=False, deadline=Deadline(5)) as fetcher:
        assert fetcher.fetch(f"file://{tmp_path}/a%20b", limit=LIMIT) == BODY
        with pytest.raises(NotFoundError, match="not there"):
            fetcher.fetch(f"file://{tmp_path}/none", limit=LIMIT)
        with pytest.raises(TrustError, match="longer than 10 bytes"):
            fetcher.fetch(f"file://{tmp_path}/a%20b", limit=10)
        with pytest.raises(DownloadError):
            fetcher.fetch(f"file://{tmp_path}", limit=10)


@pytest.mark.parametrize(
    ("base", "target"),
    [
        ("https://a.example/x/", "http://a.example/y"),
        ("https://a.example/x/", "file:///etc/passwd"),
        ("http://127.0.0.1/x/", "file:///etc/passwd"),
        ("https://a.example/x/", "http://127.0.0.1:1/y"),
    ],
)
def test_a_document_cannot_point_to_a_weaker_place(base: str, target: str) -> None:
    fetcher = Fetcher(allow_http=True, deadline=Deadline(5))
    with pytest.raises(TrustError, match="less safe place"):
        fetcher.join(base, target)


def test_a_document_may_point_elsewhere_over_https() -> None:
    fetcher = Fetcher(allow_http=False, deadline=Deadline(5))
    assert fetcher.join("https://a.example/x/d", "https://b.example/y") == "https://b.example/y"
    assert fetcher.join("file:///srv/x/d.json", "../files/y") == "file:///srv/files/y"
