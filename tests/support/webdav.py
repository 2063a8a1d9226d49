"""A WebDAV store in memory (RFC 4918, the part that a cache needs), on the loopback interface."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOUND = """<?xml version="1.0"?>
<D:multistatus xmlns:D="DAV:"><D:response><D:href>{path}</D:href><D:propstat><D:prop>
<D:resourcetype>{kind}</D:resourcetype><D:getcontentlength>{size}</D:getcontentlength>
<D:getlastmodified>Mon, 01 Jan 2024 00:00:00 GMT</D:getlastmodified>
</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>
"""


@dataclass
class WebDav:
    """What it holds, by path, and whether it takes more."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    writable: bool = True

    @contextmanager
    def serve(self) -> Iterator[WebDav]:
        """While inside."""
        store = self

        class Handler(_Handler):
            held = store

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    held: WebDav

    def do_GET(self) -> None:
        content = self.held.files.get(self.path)
        self._answer(404 if content is None else 200, content or b"")

    def do_PUT(self) -> None:
        content = self._read()
        if self.held.writable:
            self.held.files[self.path] = content
        self._answer(201 if self.held.writable else 403)

    def do_MKCOL(self) -> None:
        self._read()
        self._answer(201 if self.held.writable else 403)

    def do_PROPFIND(self) -> None:
        self._read()
        content = self.held.files.get(self.path)
        if content is None and not self.path.endswith("/"):
            self._answer(404)
            return
        kind = "" if content is not None else "<D:collection/>"
        text = _FOUND.format(path=self.path, kind=kind, size=len(content or b""))
        self._answer(207, text.encode())

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""
