"""Serve an index on the loopback interface: for trying it, for the demo, the tests, benchmarks.

What a static host should do, done right: content types (PEP 691), strong ETags with `no-cache` on
pages, so that a client asks every time and mostly hears 304, files that are cached for ever since
their address is their content, ranges, and 404 for what is not there.
"""

from __future__ import annotations

import hashlib
import http.server
import logging
import re
import sys
import threading
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from wheelbuild.errors import UsageError
from wheelbuild.index.paths import FILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
JSON_API = "application/vnd.pypi.simple.v1+json"
HTML_API = "application/vnd.pypi.simple.v1+html"
HTML = "text/html; charset=utf-8"
BYTES = "application/octet-stream"
_TYPES = {".html": HTML, ".json": "application/json", ".txt": "text/plain; charset=utf-8"}
_OFFERS = {
    HTML: ("text/html", "text/*", "*/*"),
    HTML_API: (HTML_API, HTML_API.replace("v1", "latest")),
    JSON_API: (JSON_API, JSON_API.replace("v1", "latest")),
}
"""Content type -> what a client may call it, in the order of preference."""
_FOREVER = "public, max-age=31536000, immutable"
_NO_CACHE = "no-cache"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """A file and how to speak of it."""

    path: Path
    content_type: str
    cache_control: str
    varies: bool = False
    """Whether the same address gives another file for another Accept header."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the server was asked and how it answered."""

    method: str
    path: str
    """Decoded, without the query."""
    status: int
    user_agent: str


def find_resource(root: Path, path: str, *, accept: str) -> Resource | None:
    """Map a decoded URL path to a file below `root`, or None: hidden, outside, or not there."""
    parts = path.split("/")[1:]
    if "\0" in path or "\\" in path or any(part.startswith(".") for part in parts):
        return None
    if "" in parts[:-1]:
        return None
    target = root.joinpath(*parts)
    if path.endswith("/"):
        return _find_page(target, accept=accept)
    if not target.is_file() or not target.resolve().is_relative_to(root.resolve()):
        return None
    if parts[0] == FILES:
        return Resource(path=target, content_type=BYTES, cache_control=_FOREVER)
    is_simple = target.name == "index.json" and "simple" in parts
    content_type = JSON_API if is_simple else _TYPES.get(target.suffix, BYTES)
    return Resource(path=target, content_type=content_type, cache_control=_NO_CACHE)


def _find_page(folder: Path, *, accept: str) -> Resource | None:
    page, data = folder / "index.html", folder / "index.json"
    if not data.is_file():
        found = Resource(path=page, content_type=HTML, cache_control=_NO_CACHE)
        return found if page.is_file() else None
    content_type = negotiate(accept)
    return Resource(
        path=data if content_type == JSON_API else page,
        content_type=content_type,
        cache_control=_NO_CACHE,
        varies=True,
    )


def negotiate(accept: str) -> str:
    """Choose JSON or HTML by quality (RFC 9110 §12.5.1, PEP 691); HTML where all else is equal."""
    asked = _qualities(accept)
    best = {offer: max(asked.get(name, 0.0) for name in names) for offer, names in _OFFERS.items()}
    return max(_OFFERS, key=lambda offer: best[offer])  # the first of equals


def _qualities(accept: str) -> dict[str, float]:
    found = {}
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        found[name] = float(quality) if re.fullmatch(r"[01](\.\d*)?", quality) else 0.0
    return found


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """One `bytes=` range as (first, end); None where it is not one that we serve: send the whole.

    ValueError where it lies beyond the end (RFC 9110 §14.1.2).
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise ValueError(f"range from {start} of {size} bytes")
    return start, end


class IndexServer(http.server.ThreadingHTTPServer):
    """Serves a folder from another thread while the `with` block runs; `url` ends with a slash."""

    daemon_threads = True

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        if not directory.is_dir():
            raise UsageError(f"{directory}: not a folder: publish something into it first")
        self.directory = directory
        self.requests: list[Request] = []
        self.on_request = on_request or self.requests.append
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(f"port {port} cannot be had: {error.strerror}: use another") from error

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8000/`."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """A client that hangs up is no news; anything else is, with its traceback."""
        error = sys.exception()
        if isinstance(error, (ConnectionError, TimeoutError)):
            logger.debug("%s hung up", client_address)
        else:
            logger.error("a request of %s failed", client_address, exc_info=error)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


def serve(directory: Path, *, port: int = 8000, on_ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `on_ready` gets the URL. UsageError: no such folder, or port taken."""
    with IndexServer(directory, port=port, on_request=_log) as server:
        on_ready(server.url)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            logger.info("stopped")


def _log(request: Request) -> None:
    logger.info("%d %s %s", request.status, request.method, request.path)


class _Handler(http.server.BaseHTTPRequestHandler):
    """GET and HEAD; the base class answers 501 to everything else."""

    server: IndexServer
    protocol_version = "HTTP/1.1"
    server_version = "wheelbuild"
    sys_version = ""
    # Headers and body are two writes: with Nagle's algorithm each answer would wait 40 ms.
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        logger.debug(format, *args)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        resource = find_resource(self.server.directory, path, accept=self.headers.get("Accept", ""))
        if resource is not None:
            self._send(resource, with_body=with_body)
        elif find_resource(self.server.directory, f"{path}/", accept=""):
            self._end(HTTPStatus.MOVED_PERMANENTLY, {"Location": urlsplit(self.path).path + "/"})
        else:
            self._end(HTTPStatus.NOT_FOUND)

    def _send(self, resource: Resource, *, with_body: bool) -> None:
        etag = _etag(resource)
        headers = {"ETag": etag, "Cache-Control": resource.cache_control}
        if resource.varies:
            headers["Vary"] = "Accept"
        if _matches(self.headers.get("If-None-Match", ""), etag):
            self._end(HTTPStatus.NOT_MODIFIED, headers)
            return
        headers |= {"Content-Type": resource.content_type, "Accept-Ranges": "bytes"}
        size = resource.path.stat().st_size
        start, end, status = 0, size, HTTPStatus.OK
        try:
            if found := parse_range(self._range(etag), size):
                (start, end), status = found, HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        except ValueError:
            headers["Content-Range"] = f"bytes */{size}"
            self._end(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
            return
        self._end(status, headers, length=end - start)
        if with_body and end > start:
            with resource.path.open("rb") as file:
                self.connection.sendfile(file, start, end - start)

    def _range(self, etag: str) -> str:
        """The Range header, unless it was asked for only if the file is still another one."""
        condition = self.headers.get("If-Range")
        return self.headers.get("Range", "") if condition in {None, etag} else ""

    def _end(
        self, status: HTTPStatus, headers: dict[str, str] | None = None, *, length: int = 0
    ) -> None:
        """Status line and headers; who sends a body does so after this."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(length))
        # Told before the client can hear it, so that a test that has its answer sees the request.
        self.server.on_request(
            Request(
                method=self.command,
                path=unquote(urlsplit(self.path).path),
                status=status,
                user_agent=self.headers.get("User-Agent", ""),
            )
        )
        self.end_headers()


def _etag(resource: Resource) -> str:
    """Of files by their address, of pages by their bytes."""
    if resource.cache_control == _FOREVER:
        ending = "-metadata" if resource.path.suffix == ".metadata" else ""
        return f'"{resource.path.parent.name}{ending}"'
    with resource.path.open("rb") as file:
        return f'"{hashlib.file_digest(file, "sha256").hexdigest()}"'


def _matches(header: str, etag: str) -> bool:
    """If-None-Match compares weakly (RFC 9110 §13.1.2)."""
    return etag in {tag.strip().removeprefix("W/") for tag in header.split(",")}
