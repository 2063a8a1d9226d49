"""The server, asked over a real loopback connection."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from support.index_wheels import write_cell_wheel
from wheelbuild.errors import UsageError
from wheelbuild.publish import publish
from wheelbuild.serve import HTML, HTML_API, JSON_API, IndexServer, negotiate, parse_range
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIMPLE = "/cu130/torch2.11/simple/"
PIP_ACCEPTS = f"{JSON_API}, {HTML_API}; q=0.1, text/html; q=0.01"
UV_ACCEPTS = f"{JSON_API}, {HTML_API};q=0.2, text/html;q=0.01"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Served:
    server: IndexServer
    directory: Path
    wheel: Path
    file: str
    """Path of the wheel in the index."""

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        with closing(http.client.HTTPConnection(*self.server.server_address[:2])) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = write_cell_wheel(tmp_path)
    store = DirectoryStore(tmp_path / "index")
    published = publish(made.path, made.entry, store=store)
    with IndexServer(store.directory) as server:
        yield Served(server, store.directory, made.path, f"/{published.entry.url}")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", HTML),
        (SIMPLE, HTML),
        (f"{SIMPLE}apex/", HTML),
        (f"{SIMPLE}apex/index.html", HTML),
        (f"{SIMPLE}apex/index.json", JSON_API),
        ("/cu130/torch2.11/install-cp311.json", "application/json"),
    ],
)
def test_pages_have_their_type_and_are_asked_for_each_time(
    served: Served, path: str, content_type: str
) -> None:
    answer = served.ask(path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == content_type
    assert answer.headers["Cache-Control"] == "no-cache"
    again = served.ask(path, If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]
    assert served.ask(path, If_None_Match='"other", W/"x"').status == 200


@pytest.mark.parametrize("ending", ["", ".metadata"])
def test_files_are_kept_for_ever(served: Served, ending: str) -> None:
    answer = served.ask(served.file + ending)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "immutable" in answer.headers["Cache-Control"]
    assert served.ask(served.file + ending, If_None_Match=answer.headers["ETag"]).status == 304


def test_a_wheel_comes_whole_by_either_spelling_of_plus(served: Served) -> None:
    assert "%2B" in served.file
    for path in (served.file, served.file.replace("%2B", "+")):
        assert served.ask(path).body == served.wheel.read_bytes()


def test_wheel_and_sidecar_have_different_etags(served: Served) -> None:
    tags = {served.ask(served.file + ending).headers["ETag"] for ending in ("", ".metadata")}
    assert len(tags) == 2


def test_a_new_page_has_a_new_etag(served: Served, tmp_path: Path) -> None:
    before = served.ask(f"{SIMPLE}apex/").headers["ETag"]
    made = write_cell_wheel(tmp_path, build_tag=2, inputs="second")
    publish(made.path, made.entry, store=DirectoryStore(served.directory))
    answer = served.ask(f"{SIMPLE}apex/", If_None_Match=before)
    assert answer.status == 200
    assert made.path.name in answer.body.decode()


def test_head_says_what_get_would(served: Served) -> None:
    answer = served.ask(served.file, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(served.wheel.stat().st_size)


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None)],
)
def test_a_range(served: Served, asked: str, first: int, end: int | None) -> None:
    whole = served.wheel.read_bytes()
    answer = served.ask(served.file, Range=asked)
    start = first % len(whole)
    assert (answer.status, answer.body) == (206, whole[first:end])
    last = (end or len(whole)) - 1
    assert answer.headers["Content-Range"] == f"bytes {start}-{last}/{len(whole)}"


def test_a_range_beyond_the_end(served: Served) -> None:
    answer = served.ask(served.file, Range="bytes=99999999-")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{served.wheel.stat().st_size}"


def test_a_range_of_what_was_is_the_whole_of_what_is(served: Served) -> None:
    etag = served.ask(served.file).headers["ETag"]
    assert served.ask(served.file, Range="bytes=0-9", If_Range=etag).status == 206
    assert served.ask(served.file, Range="bytes=0-9", If_Range='"old"').status == 200


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=5-1000", (5, 10)),
        ("bytes=-100", (0, 10)),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=4-2", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
    ],
)
def test_ranges(header: str, found: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == found


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=-0"])
def test_ranges_that_cannot_be(header: str) -> None:
    with pytest.raises(ValueError, match="range from"):
        parse_range(header, 10)


@pytest.mark.parametrize(
    ("accept", "found"),
    [
        ("", HTML),
        ("*/*", HTML),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", HTML),
        (PIP_ACCEPTS, JSON_API),
        (UV_ACCEPTS, JSON_API),
        ("application/vnd.pypi.simple.latest+json", JSON_API),
        (f"{HTML_API}, text/html;q=0.1", HTML_API),
        (f"{JSON_API};q=0.1, text/html", HTML),
        (f"{JSON_API};q=nonsense, text/html;q=0.1", HTML),
    ],
)
def test_negotiation(accept: str, found: str) -> None:
    assert negotiate(accept) == found


def test_what_clients_get_they_can_read(served: Served) -> None:
    answer = served.ask(f"{SIMPLE}apex/", Accept=PIP_ACCEPTS)
    assert answer.headers["Content-Type"] == JSON_API
    assert answer.headers["Vary"] == "Accept"
    assert answer.body == (served.directory / f"{SIMPLE[1:]}apex/index.json").read_bytes()


def test_a_folder_without_its_slash_is_redirected(served: Served) -> None:
    answer = served.ask(f"{SIMPLE}apex")
    assert (answer.status, answer.headers["Location"]) == (301, f"{SIMPLE}apex/")


@pytest.mark.parametrize(
    "path",
    [
        f"{SIMPLE}packaging/",
        f"{SIMPLE}torch/",
        "/cu121/torch2.4/simple/apex/",
        "/cu130/",
        "/files/",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/files/../../secret.txt",
        "/files/..%2f..%2fsecret.txt",
        "//etc/passwd",
        "/%2Fetc/passwd",
        "/.git/config",
        "/link.txt",
        "/a%00b",
        "/..%5csecret.txt",
    ],
)
def test_all_else_is_404(served: Served, path: str) -> None:
    (served.directory.parent / "secret.txt").write_text("secret")
    (served.directory / ".git").mkdir()
    (served.directory / ".git/config").write_text("secret")
    (served.directory / "link.txt").symlink_to(served.directory.parent / "secret.txt")
    answer = served.ask(path)
    assert (answer.status, answer.body) == (404, b"")


def test_nothing_can_be_written(served: Served) -> None:
    assert served.ask("/", "POST").status == 501
    assert served.ask("/index.html", "PUT").status == 501


def test_a_client_that_hangs_up_leaves_the_server_standing(
    served: Served, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    big = served.directory / "files/ab/big.whl"
    big.parent.mkdir()
    with big.open("wb") as file:
        file.truncate(1 << 28)
    with socket.create_connection(served.server.server_address[:2]) as connection:
        connection.sendall(b"GET /files/ab/big.whl HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(1000)
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(20)
    assert served.ask("/").status == 200
    assert "failed" not in caplog.text
    assert capsys.readouterr().err == ""


def test_it_listens_on_loopback_alone(served: Served) -> None:
    assert served.server.server_address[0] == "127.0.0.1"


def test_requests_are_told(served: Served) -> None:
    served.ask("/nothing", User_Agent="me")
    (request,) = served.server.requests
    assert (request.method, request.path, request.status) == ("GET", "/nothing", 404)
    assert request.user_agent == "me"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="publish something into it first"):
        IndexServer(tmp_path / "none")


def test_a_port_that_is_taken(served: Served) -> None:
    with pytest.raises(UsageError, match="cannot be had"):
        IndexServer(served.directory, port=served.server.server_address[1])
