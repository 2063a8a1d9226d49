"""https with a certificate that is trusted, and with those that are not."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from apex_installer.deadline import Deadline
from apex_installer.errors import DeadlineError, DownloadError, TrustError
from apex_installer.get.http import Fetcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def certificate(tmp_path: Path, requires_tool: Callable[[str], str]) -> Path:
    """Self-signed for `localhost`; key and certificate in one file."""
    path = tmp_path / "cert.pem"
    subprocess.run(
        [
            *(requires_tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-keyout", tmp_path / "key.pem", "-out", path, "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    (tmp_path / "both.pem").write_text((tmp_path / "key.pem").read_text() + path.read_text())
    return path


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/down":
            self.send_response(302)
            self.send_header("Location", "http://localhost/x")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"body")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def port(certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.with_name("both.pem"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(url: str, *, seconds: float = 10) -> bytes:
    with Fetcher(allow_http=False, deadline=Deadline(seconds), pause=lambda _: None) as fetcher:
        return fetcher.fetch(url, limit=100)


def test_a_trusted_one(port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert fetch(f"https://localhost:{port}/x") == b"body"


def test_an_unknown_one_is_refused_with_what_to_do(port: int) -> None:
    with pytest.raises(DownloadError, match=r"not trusted \(self.signed.*SSL_CERT_FILE"):
        fetch(f"https://localhost:{port}/x")


def test_one_of_another_host_is_refused(
    port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(DownloadError, match=r"not trusted .*127\.0\.0\.1"):
        fetch(f"https://127.0.0.1:{port}/x")


def test_no_redirect_to_plain_http(
    port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(TrustError, match="less safe place"):
        fetch(f"https://localhost:{port}/down")


def test_a_handshake_that_stalls_ends_with_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises((DeadlineError, DownloadError)):
            fetch(f"https://127.0.0.1:{silent.getsockname()[1]}/x", seconds=0.5)
        assert time.monotonic() - started < 10


def test_a_server_without_tls() -> None:
    class Plain(http.server.ThreadingHTTPServer):
        daemon_threads = True

    with Plain(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        with pytest.raises(DownloadError, match="cannot connect"):
            fetch(f"https://127.0.0.1:{server.server_port}/x")
        server.shutdown()
        thread.join()
