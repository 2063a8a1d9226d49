"""A server that says what it is told to: recorded pages, and failures before them."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING, Self

from wheelbuild.serve import JSON_API

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class ReplayServer(http.server.ThreadingHTTPServer):
    """`pages`: path -> (media type, body). `failures`: path -> answers before the page, codes.

    A code of 0 hangs up in the middle of the page. Ranges are answered. `asked` are the paths.
    """

    daemon_threads = True

    def __init__(
        self,
        pages: Mapping[str, tuple[str, bytes]],
        *,
        failures: Mapping[str, list[int]] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = dict(pages)
        self.failures = {path: list(codes) for path, codes in (failures or {}).items()}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()


def replay_torch(*releases: str) -> ReplayServer:
    """PyPI on the day when these torches are there, in our own words: CUDA 13.0, Python 3.12."""
    names = [f"torch-{one}-cp312-cp312-manylinux_2_28_x86_64.whl" for one in releases]
    files = [{"filename": name, "url": f"/files/{name}", "yanked": False} for name in names]
    metadata = "Metadata-Version: 2.1\nName: torch\nRequires-Dist: cuda-toolkit[cudart]==13.0.3\n\n"
    sidecars = {f"/files/{name}.metadata": ("text/plain", metadata.encode()) for name in names}
    page = json.dumps({"files": files}).encode()
    return ReplayServer({"/simple/torch/": (JSON_API, page), **sidecars})


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ReplayServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, path = self.server, self.path
        server.asked.append(path)
        left, start, whole = server.failures.get(path), 0, 0
        code = left.pop(0) if left else 200
        kind, body = server.pages.get(path, ("text/plain", b""))
        if code == 200 and path not in server.pages:
            code = 404
        if code == 200 and (span := self.headers.get("Range")):
            first, _, last = span.removeprefix("bytes=").partition("-")
            whole = len(body)
            start = int(first) if first else whole - int(last)
            body = body[int(first) : int(last) + 1] if first else body[-int(last) :]
            code = 206
        promised = len(body)
        if code == 0:
            code, body = 200, body[: promised // 2]
            self.close_connection = True
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(promised if code in {200, 206} else 0))
        if code == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + promised - 1}/{whole}")
        self.end_headers()
        if code in {200, 206}:
            self.wfile.write(body)
