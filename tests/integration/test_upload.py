"""`publish --to`: real twine to a real pypiserver; credentials in the request and nowhere else."""

from __future__ import annotations

import base64
import http.server
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requests

from support.index_wheels import write_cell_wheel
from wheelbuild import upload as uploading
from wheelbuild.errors import PublishError
from wheelbuild.upload import upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

CANARY = "canary-8c1d"


@dataclass(frozen=True)
class Server:
    url: str
    files: Path

    def held(self) -> list[str]:
        return sorted(path.name for path in self.files.iterdir())


@pytest.fixture(params=["sha256", ""], ids=["sha256", "no-digests"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, requires_tool: Callable[[str], str]
) -> Iterator[Server]:
    """A pypiserver that takes any credentials; with digests on its pages, and without."""
    program = requires_tool("pypi-server")
    files, log = tmp_path / "files", tmp_path / "server.log"
    files.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [program, "run", "-i", "127.0.0.1", "-p", str(port), "--disable-fallback", "-v"]
    words += ["-P", ".", "-a", "."]
    words += ["--hash-algo", request.param or "off", str(files)]
    url = f"http://127.0.0.1:{port}/"
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)
        try:
            _wait_for(url, process, log)
            yield Server(url, files)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())


@contextmanager
def echoing_server(*, status_of_get: int = 404) -> Iterator[tuple[str, list[str]]]:
    """Refuses each upload with the credentials in its answer; its URL, and what it heard."""
    heard: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status_of_get)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(self.headers["Authorization"])
            self.send_response(403, f"no to {self.headers['Authorization']}")
            body = base64.b64decode(self.headers["Authorization"].removeprefix("Basic "))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", heard
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    kept = ("PATH", "SSL_CERT_FILE", "LANG")
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    return environ | {
        "HOME": str(tmp_path),
        "TWINE_USERNAME": "me",
        "TWINE_PASSWORD": CANARY,
    }


def test_twice_is_once(server: Server, tmp_path: Path, environ: dict[str, str]) -> None:
    made = write_cell_wheel(tmp_path)
    first = upload(made.path, to=server.url, environ=environ)
    assert first.state == "uploaded"
    assert server.held() == [made.path.name]
    assert (server.files / made.path.name).read_bytes() == made.path.read_bytes()
    second = upload(made.path, to=server.url, environ=environ)
    assert second.state == "already"


def test_other_bytes_under_a_name_are_refused(
    server: Server, tmp_path: Path, environ: dict[str, str]
) -> None:
    made = write_cell_wheel(tmp_path)
    other = write_cell_wheel(tmp_path / "other", inputs="second")
    upload(made.path, to=server.url, environ=environ)
    with pytest.raises(PublishError, match="holds other bytes under this name"):
        upload(other.path, to=server.url, environ=environ)
    assert (server.files / made.path.name).read_bytes() == made.path.read_bytes()


def test_a_build_tag_makes_room(server: Server, tmp_path: Path, environ: dict[str, str]) -> None:
    for tag, inputs in ((0, "first"), (2, "second")):
        made = write_cell_wheel(tmp_path, build_tag=tag, inputs=inputs)
        upload(made.path, to=server.url, environ=environ)
    assert len(server.held()) == 2


def test_another_publisher_was_first(
    server: Server, tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look and our upload: twine is refused, and the same bytes are there."""
    made = write_cell_wheel(tmp_path)
    real = uploading.run_command

    def late(*words: object, **options: object) -> object:
        shutil.copy(made.path, server.files)
        return real(*words, **options)

    monkeypatch.setattr(uploading, "run_command", late)
    assert upload(made.path, to=server.url, environ=environ).state == "uploaded"


def test_no_credential_is_in_arguments_or_logs(
    tmp_path: Path,
    environ: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever a server answers, the password itself too; and ~/.pypirc stays unread."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / ".pypirc").write_text("[pypi]\nusername = other\npassword = other\n")
    commands = []
    real = uploading.run_command

    def recorded(words: list[str], **options: object) -> object:
        commands.append([str(word) for word in words])
        return real(words, **options)

    monkeypatch.setattr(uploading, "run_command", recorded)
    made = write_cell_wheel(tmp_path)
    header = base64.b64encode(f"me:{CANARY}".encode()).decode()
    with echoing_server() as (url, heard), pytest.raises(PublishError) as raised:
        upload(made.path, to=url, environ=environ | {"TWINE_VERBOSE": "1"})
    assert f"Basic {header}" in heard
    said = [str(raised.value), caplog.text, str(commands)]
    assert len(commands) == 1
    for text in said:
        assert text
        assert CANARY not in text
        assert header not in text
    assert "did not take it" in said[0]


def test_an_index_that_is_not_there(tmp_path: Path, environ: dict[str, str]) -> None:
    made = write_cell_wheel(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(PublishError, match="cannot be asked"):
            upload(made.path, to=url, environ=environ)


def test_a_simple_api_that_fails_is_not_taken_for_an_empty_one(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    made = write_cell_wheel(tmp_path)
    with echoing_server(status_of_get=500) as (url, _), pytest.raises(PublishError, match="500"):
        upload(made.path, to=url, environ=environ)
