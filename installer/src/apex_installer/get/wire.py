"""One HTTP/1.1 exchange over a socket, every wait of it bounded by the deadline.

http.client is not used for two reasons, both measured: its import costs 35 ms (email, urllib, ssl)
of an install that takes 150, and its time-outs are per read, so that a server that sends one byte
now and then holds a pod for hours, even inside the headers. Here each `recv` gets what is left of
the deadline, and name resolution, which knows no time-out, runs in a thread that is left behind.
"""

from __future__ import annotations

import _thread
import re
import socket
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Tuple

from apex_installer.errors import DownloadError

if TYPE_CHECKING:
    from apex_installer.deadline import Deadline
    from apex_installer.get.url import Url

IDLE_SECONDS = 15.0
"""Longest silence of a server."""
CONNECT_SECONDS = 5.0
"""Longest wait for one of a host's addresses."""
MAX_HEAD = 64 * 1024
CHUNK = 256 * 1024
_STATUS = re.compile(rb"^HTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?$")


class WireError(Exception):
    """The exchange broke; another attempt may succeed."""


class Response:
    """Status and headers, and the body to be read once."""

    def __init__(self, *, status: int, headers: Mapping[str, str], connection: Connection) -> None:
        """Made by `Connection.request`."""
        self.status = status
        self.headers = headers
        self._connection = connection

    @property
    def length(self) -> Optional[int]:
        """Bytes of the body, where the server says."""
        if "transfer-encoding" in self.headers:
            return None
        text = self.headers.get("content-length")
        return int(text) if text is not None else None

    def body(self) -> Iterator[memoryview]:
        """Pieces of the body; each is valid until the next. WireError where it ends too early."""
        return self._connection.read_body(self)


class Connection:
    """A connection to one origin, used for one request after the other."""

    def __init__(self, url: Url, *, deadline: Deadline) -> None:
        """Connect; WireError or DownloadError say why not."""
        self.origin = url.origin
        self.usable = True
        self._deadline = deadline
        self._where = url.shown
        self._buffer = b""
        self._socket = self._connect(url)

    def close(self) -> None:
        """End it; never fails."""
        self.usable = False
        self._socket.close()

    def request(self, url: Url, headers: Mapping[str, str]) -> Response:
        """GET; the former body must have been read or the connection is of no more use."""
        lines = [f"GET {url.path} HTTP/1.1", f"Host: {url.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._where = url.shown
        self.usable = False
        self._send("\r\n".join([*lines, "", ""]).encode("ascii"))
        status, version, fields = self._read_head()
        self._keep = version == b"1" and fields.get("connection", "").lower() != "close"
        return Response(status=status, headers=fields, connection=self)

    def read_body(self, response: Response) -> Iterator[memoryview]:
        """See `Response.body`."""
        encoding = response.headers.get("transfer-encoding", "").lower()
        if encoding == "chunked":
            yield from self._read_chunks()
        elif encoding:
            raise WireError(f"unknown transfer encoding {encoding[:40]!r}")
        elif response.length is not None:
            yield from self._read_exactly(response.length)
        else:
            self._keep = False
            yield from self._read_to_end()
        if self._keep:
            self.usable = True
        else:
            self.close()

    # -- reading ---------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Give the next wait on the socket what is left of the time."""
        self._deadline.check(f"waiting for {self._where}")
        self._socket.settimeout(max(0.001, min(IDLE_SECONDS, self._deadline.remaining())))

    def _send(self, data: bytes) -> None:
        self._arm()
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._broken(error) from error

    def _receive(self, view: memoryview) -> int:
        self._arm()
        try:
            return int(self._socket.recv_into(view))
        except OSError as error:
            raise self._broken(error) from error

    def _broken(self, error: OSError) -> WireError:
        self.close()
        self._deadline.check(f"waiting for {self._where}")
        if isinstance(error, socket.timeout):
            return WireError(f"no answer for {IDLE_SECONDS:g} s")
        return WireError(error.strerror or str(error) or type(error).__name__)

    def _read_more(self) -> None:
        view = memoryview(bytearray(16 * 1024))
        count = self._receive(view)
        if not count:
            raise WireError("the server closed the connection")
        self._buffer += bytes(view[:count])

    def _read_until(self, mark: bytes, limit: int) -> bytes:
        while mark not in self._buffer:
            if len(self._buffer) > limit:
                raise WireError("the answer's head is endless")
            self._read_more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _read_head(self) -> Tuple[int, bytes, Dict[str, str]]:
        while True:
            lines = self._read_until(b"\r\n\r\n", MAX_HEAD).split(b"\r\n")
            match = _STATUS.match(lines[0])
            if not match:
                raise WireError(f"not an HTTP answer: {lines[0][:40]!r}")
            status = int(match.group(2))
            if status >= 200:  # noqa: PLR2004 - 1xx announces the answer proper
                return status, match.group(1), _parse_fields(lines[1:])

    def _read_exactly(self, length: int) -> Iterator[memoryview]:
        first, self._buffer = self._buffer[:length], self._buffer[length:]
        if first:
            yield memoryview(first)
        left = length - len(first)
        view = memoryview(bytearray(min(CHUNK, left)))
        while left:
            count = self._receive(view[: min(left, CHUNK)])
            if not count:
                raise WireError(f"the answer was cut off, {left} of {length} bytes are missing")
            left -= count
            yield view[:count]

    def _read_chunks(self) -> Iterator[memoryview]:
        while True:
            text = self._read_until(b"\r\n", MAX_HEAD).partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", text):
                raise WireError(f"a bad chunk length: {text[:20]!r}")
            length = int(text, 16)
            yield from self._read_exactly(length)
            if not length:
                while self._read_until(b"\r\n", MAX_HEAD):
                    pass  # trailers
                return
            if self._read_until(b"\r\n", MAX_HEAD):
                raise WireError("a chunk is longer than it says")

    def _read_to_end(self) -> Iterator[memoryview]:
        if self._buffer:
            yield memoryview(self._buffer)
            self._buffer = b""
        view = memoryview(bytearray(CHUNK))
        while True:
            count = self._receive(view)
            if not count:
                return
            yield view[:count]

    # -- connecting ------------------------------------------------------------------------------

    def _connect(self, url: Url) -> Any:
        self._deadline.check(f"connecting to {self._where}")
        error: Optional[OSError] = None
        for family, address in _resolve(url, deadline=self._deadline):
            left = self._deadline.remaining()
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(max(0.001, min(CONNECT_SECONDS, left)))
                connection.connect(address)
                return self._secured(connection, url) if url.scheme == "https" else connection
            except OSError as failure:
                connection.close()
                error = failure
            except BaseException:
                connection.close()
                raise
            self._deadline.check(f"connecting to {self._where}")
        reason = "no answer" if isinstance(error, socket.timeout) else error and error.strerror
        raise WireError(f"cannot connect to {url.authority}: {reason or error}")

    def _secured(self, connection: socket.socket, url: Url) -> Any:
        import ssl  # noqa: PLC0415 - 10 ms that http and file do not pay

        context = ssl.create_default_context()
        connection.settimeout(max(0.001, min(IDLE_SECONDS, self._deadline.remaining())))
        try:
            return context.wrap_socket(connection, server_hostname=url.host.strip("[]"))
        except ssl.SSLCertVerificationError as error:
            raise DownloadError(
                f"{self._where}: the certificate is not trusted ({error.verify_message}); are "
                "ca-certificates installed and the clock right? SSL_CERT_FILE names other ones"
            ) from error


def _resolve(url: Url, *, deadline: Deadline) -> List[Tuple[int, Any]]:
    """Addresses of a host. getaddrinfo cannot be bounded, so it is waited for from outside."""
    host = url.host.strip("[]")
    answer: List[Any] = []
    done = _thread.allocate_lock()
    done.acquire()

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(host, url.port, type=socket.SOCK_STREAM))
        except OSError as error:
            answer.append(error)
        finally:
            done.release()

    if re.fullmatch(r"[0-9.]+|.*:.*", host):  # a number needs no name server
        ask()
    else:
        _thread.start_new_thread(ask, ())
    if not done.acquire(timeout=max(0.001, deadline.remaining())):
        deadline.check(f"looking up {host}")
    if not answer or isinstance(answer[0], OSError):
        why = answer[0].strerror if answer else "no answer"
        raise WireError(f"cannot look up {host}: {why}")
    return [(family, address) for family, _, _, _, address in answer[0]]


def _parse_fields(lines: List[bytes]) -> Dict[str, str]:
    fields: Dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        name, value = name.lower(), value.strip()
        if not colon or not name or name != name.strip():
            raise WireError(f"a malformed header: {line[:40]!r}")
        if name == "content-length" and not _is_length(value, before=fields.get(name)):
            raise WireError(f"a malformed Content-Length: {value[:40]!r}")
        fields[name] = value
    return fields


def _is_length(value: str, *, before: Optional[str]) -> bool:
    """Two that differ, or a sign, are how proxies and servers are made to disagree."""
    return re.fullmatch(r"\d{1,18}", value) is not None and before in (None, value)
