"""A server on loopback that goes wrong in one chosen way, byte for byte.

    with FaultServer({"/ok": answer(b"data"), "/drip": drip(b"data")}) as server:
        server.url + "/ok", server.requests

Each path has a handler that is given the raw request and the socket; what it sends is all that is
sent. Standard library only, one thread per connection, gone at the end of the block.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

Handler = Callable[["Request"], None]


class Request:
    """One request, and the socket to answer on."""

    def __init__(
        self, path: str, head: str, connection: socket.socket, server: FaultServer
    ) -> None:
        self.path, self.head, self.connection, self.server = path, head, connection, server
        self.keep_open = False

    def header(self, name: str) -> str:
        match = re.search(rf"^{name}: *(.*?)\r?$", self.head, re.IGNORECASE | re.MULTILINE)
        return match.group(1) if match else ""

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def send_head(self, status: str = "200 OK", **fields: object) -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{k.replace('_', '-')}: {v}" for k, v in fields.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than the server lives; True when it ends."""
        return self.server.ended.wait(seconds)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


class FaultServer:
    """The server; `requests` are the paths that were asked for, in order."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self.handlers = dict(handlers)
        self.requests: list[str] = []
        self.heads: list[str] = []
        self.connections = 0
        self.ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(0.1)
        with connection, suppress(OSError):
            while not self.ended.is_set():
                request = self._read(connection)
                if request is None:
                    return
                self.requests.append(request.path)
                self.heads.append(request.head)
                self.handlers.get(request.path, status("404 Not Found"))(request)
                if not request.keep_open:
                    return

    def _read(self, connection: socket.socket) -> Request | None:
        head = b""
        while b"\r\n\r\n" not in head:
            try:
                data = connection.recv(4096)
            except TimeoutError:
                if self.ended.is_set():
                    return None
                continue
            if not data:
                return None
            head += data
        text = head.decode("latin-1")
        return Request(text.split(" ")[1], text, connection, self)


def answer(body: bytes, *, keep_open: bool = True, **fields: object) -> Handler:
    """All is well."""

    def handle(request: Request) -> None:
        request.send_head(Content_Length=len(body), **fields)
        request.send(body)
        request.keep_open = keep_open

    return handle


def ranges(body: bytes, *, cut_after: int | None = None, offset: int = 0) -> Handler:
    """Honours Range; `cut_after` cuts the first answer off, `offset` lies about the start."""
    state = {"first": True}

    def handle(request: Request) -> None:
        match = re.match(r"bytes=(\d+)-", request.header("Range"))
        start = int(match.group(1)) if match else 0
        if match and start >= len(body):
            request.send_head("416 Range Not Satisfiable", Content_Length=0)
            return
        part = body[start:]
        if match:
            span = f"bytes {start + offset}-{len(body) - 1}/{len(body)}"
            request.send_head("206 Partial", Content_Length=len(part), Content_Range=span)
        else:
            request.send_head(Content_Length=len(part))
        if state.pop("first", False) and cut_after is not None:
            request.send(part[:cut_after])
            return
        request.send(part)

    return handle


def chunked(body: bytes, *, size: int = 7, ends: bool = True) -> Handler:
    """Transfer-Encoding: chunked; without its end if told so."""

    def handle(request: Request) -> None:
        request.send_head(Transfer_Encoding="chunked")
        for start in range(0, len(body), size):
            piece = body[start : start + size]
            request.send(f"{len(piece):x};x=y\r\n".encode() + piece + b"\r\n")
        if ends:
            request.send(b"0\r\nTrailer: yes\r\n\r\n")
            request.keep_open = True

    return handle


def status(line: str, **fields: object) -> Handler:
    """No body, some status."""

    def handle(request: Request) -> None:
        request.send_head(line, Content_Length=0, **fields)

    return handle


def redirect(location: str, code: str = "302 Found") -> Handler:
    return status(code, Location=location)


def truncated(body: bytes, *, announced: int | None = None) -> Handler:
    """Fewer bytes than Content-Length says, then the end."""

    def handle(request: Request) -> None:
        request.send_head(Content_Length=len(body) + 1 if announced is None else announced)
        request.send(body)

    return handle


def unannounced(body: bytes) -> Handler:
    """No Content-Length: the end of the connection is the end of the body."""

    def handle(request: Request) -> None:
        request.send_head()
        request.send(body)

    return handle


def reset_after(body: bytes, *, announced: int) -> Handler:
    """Some bytes, then RST."""

    def handle(request: Request) -> None:
        request.send_head(Content_Length=announced)
        request.send(body)
        request.wait(0.05)
        request.reset()

    return handle


def drip(body: bytes, *, seconds: float = 0.05, head: bool = False) -> Handler:
    """One byte now and then; `head` drips the headers too."""

    def handle(request: Request) -> None:
        text = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        if not head:
            request.send(text)
            text = b""
        for byte in text + body:
            request.send(bytes([byte]))
            if request.wait(seconds):
                return

    return handle


def silent(*, head: bool = False) -> Handler:
    """Nothing ever comes, or nothing after the headers."""

    def handle(request: Request) -> None:
        if head:
            request.send_head(Content_Length=100)
        request.wait(60)

    return handle


def endless(*, announced: int | None = None, head: bool = False) -> Handler:
    """More and more of it: a body, or headers."""

    def handle(request: Request) -> None:
        if head:
            request.send(b"HTTP/1.1 200 OK\r\n")
        elif announced is None:
            request.send_head()
        else:
            request.send_head(Content_Length=announced)
        piece = b"X-Filler: " + b"x" * 4000 + b"\r\n" if head else b"x" * 65536
        while not request.server.ended.is_set():
            request.send(piece)

    return handle


def raw(data: bytes) -> Handler:
    """Exactly these bytes in place of an answer."""

    def handle(request: Request) -> None:
        request.send(data)

    return handle


def then(*handlers: Handler) -> Handler:
    """One after the other, the last for ever."""
    left = list(handlers)

    def handle(request: Request) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(request)

    return handle
