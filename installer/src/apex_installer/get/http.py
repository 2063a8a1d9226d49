"""Fetch documents and files: which addresses are allowed, when to try again, what is believed.

Nothing is believed for having arrived: a document has a size limit, a file its size and sha256.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Set,
    Tuple,
    Type,
    TypeVar,
)

from apex_installer import __version__
from apex_installer.closing import Closing
from apex_installer.errors import DownloadError, TrustError, UsageError
from apex_installer.get.part import Part, ServedAnewError
from apex_installer.get.url import Url

if TYPE_CHECKING:
    from apex_installer.deadline import Deadline
    from apex_installer.get.wire import Connection, Response

_Answer = TypeVar("_Answer")

ATTEMPTS = 4
"""In a row without a byte of progress."""
MAX_REDIRECTS = 5
FIRST_PAUSE = 0.1
"""Seconds before the second attempt; each further pause is three times as long."""
MOST_STEPS = 8
"""Of the growing pause; what is left of the deadline bounds it long before."""
PATIENCE = 4
"""No pause is longer than this part of the time that is left, whatever a server asks for."""
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FETCH_IT = "the most that is fetched to be looked at: download it and name the file"
OK, PARTIAL, NOT_SATISFIABLE = 200, 206, 416
MISSING = frozenset({404, 410})
TOKEN_WANTED = frozenset({401, 403})


class NotFoundError(DownloadError):
    """The server answered, and has no such file."""


class NoRangesError(DownloadError):
    """The server answered, but not with the part of the file that was asked for."""


class Fetcher(Closing):
    """Fetches within one deadline; keeps its connection from one request to the next."""

    def __init__(
        self,
        *,
        allow_http: bool,
        deadline: Deadline,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`allow_http`: plain http beyond this machine too; `pause` is a seam for tests."""
        self._allow_http = allow_http
        self._deadline = deadline
        self._pause = pause
        self._connection: Optional[Connection] = None
        self._credentials: Dict[Tuple[str, str, int], str] = {}

    def close(self) -> None:
        """Drop the kept connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def join(self, base: str, relative: str) -> str:
        """The address that `relative` means in the document at `base`, without credentials.

        Those of `base` are remembered for its origin. TrustError where a document points to a
        weaker place than its own: from the network to `file:`, from https to http.
        """
        source = Url.parse(base)
        target = source.joined(relative)
        self._check_no_downgrade(source, target)
        self._remember(source)
        return target._replace(credentials="").text

    def fetch(self, url: str, *, limit: int, attempts: Optional[int] = None) -> bytes:
        """A whole document of at most `limit` bytes.

        NotFoundError, DownloadError, DeadlineError; TrustError where it is longer than `limit`;
        UsageError for an address that is not allowed.
        """
        address = self._allowed(Url.parse(url))
        if address.scheme == "file":
            return _read_file(address, limit=limit)

        def attempt() -> bytes:
            with self._open(address, {}) as response:
                _check_status(response, address, accepted={OK})
                return _collect(response, address, limit=limit)

        return self._with_attempts(attempt, where=address, progress=lambda: 0, most=attempts)

    def fetch_range(self, url: str, *, start: int, length: int) -> bytes:
        """`length` bytes of a file from `start` on; NoRangesError where a server sends no part."""
        address = self._allowed(Url.parse(url))
        if address.scheme == "file":
            with open(_opened(address), "rb") as file:
                file.seek(start)
                return file.read(length)
        headers = {"Range": f"bytes={start}-{start + length - 1}"}

        def attempt() -> bytes:
            with self._open(address, headers) as response:
                _check_status(response, address, accepted={OK, PARTIAL, NOT_SATISFIABLE})
                asked = f"bytes {start}-{start + length - 1}/"
                said = response.headers.get("content-range", "")
                if response.status != PARTIAL or not said.startswith(asked):
                    raise NoRangesError(f"{address.shown}: the server sends whole files only")
                return _collect(response, address, limit=length)

        return self._with_attempts(attempt, where=address, progress=lambda: 0)

    def download(self, url: str, into: str, *, sha256: str, size: int) -> int:
        """Fill the file `into` with exactly these bytes; returns how many were fetched.

        What `into` holds from an earlier run is continued. DownloadError leaves what was had for
        the next time, except where the disk is full; TrustError (another size, another sha256)
        removes it.
        """
        address = self._allowed(Url.parse(url))
        with Part(into, sha256=sha256, size=size, where=address.shown) as part:
            if part.complete:
                return part.received
            part.check_room()
            if address.scheme == "file":
                part.copy_from(_opened(address), check=self._deadline.check)
                return part.received

            def attempt() -> None:
                self._continue(part, address)

            self._with_attempts(attempt, where=address, progress=lambda: part.longest)
            return part.received

    def save(self, url: str, into: str, *, limit: int) -> int:
        """Fill the file `into` with whatever is there, at most `limit` bytes; returns how many.

        For what is only looked at: nothing says what the bytes should be. Errors as `fetch` has
        them; OSError as writing has it.
        """
        address = self._allowed(Url.parse(url))

        def attempt() -> int:
            with self._open(address, {}) as response, open(into, "wb") as file:
                _check_status(response, address, accepted={OK})
                file.writelines(_limited(response, address, limit=limit, so=_FETCH_IT))
                return file.tell()

        return self._with_attempts(attempt, where=address, progress=lambda: 0)

    # -- one attempt -----------------------------------------------------------------------------

    def _continue(self, part: Part, address: Url) -> None:
        headers = {"Range": f"bytes={part.length}-"} if part.length else {}
        with self._open(address, headers) as response:
            _check_status(response, address, accepted={OK, PARTIAL, NOT_SATISFIABLE})
            if response.status == NOT_SATISFIABLE:
                part.restart()
                raise _Again("the server cannot continue the file")
            if response.status == PARTIAL:
                part.check_range(response.headers.get("content-range", ""))
            else:
                part.restart()
                part.check_announced(response.length)
            for piece in response.body():
                part.write(piece)
        part.finish()

    @contextmanager
    def _open(self, address: Url, headers: Dict[str, str]) -> Iterator[Response]:
        """Follow redirects to an answer; a body that was not read costs its connection."""
        for _ in range(MAX_REDIRECTS + 1):
            connection = self._connected(address)
            response = connection.request(address, {**_headers(address), **headers})
            if response.status not in REDIRECTS:
                try:
                    yield response
                finally:
                    if not connection.usable:
                        self.close()
                return
            self.close()
            target = address.joined(response.headers.get("location", ""))
            self._check_no_downgrade(address, target)
            address = self._allowed(target)
        raise DownloadError(f"{address.shown}: more than {MAX_REDIRECTS} redirects")

    def _connected(self, address: Url) -> Connection:
        from apex_installer.get.wire import Connection  # noqa: PLC0415 - no sockets for file:

        kept = self._connection
        if kept and kept.usable and kept.origin == address.origin:
            return kept
        self.close()
        self._connection = Connection(address, deadline=self._deadline)
        return self._connection

    def _remember(self, address: Url) -> None:
        if address.credentials:
            self._credentials[address.origin] = address.credentials

    def _allowed(self, address: Url) -> Url:
        """The address with what is known for its origin; UsageError for plain http elsewhere."""
        self._remember(address)
        address = address._replace(credentials=self._credentials.get(address.origin, ""))
        if address.scheme != "http" or address.is_loopback or self._allow_http:
            return address
        raise UsageError(
            f"{address.shown}: plain http is taken from this machine alone, since the index is not "
            "signed; use https:// or say --allow-http"
        )

    def _check_no_downgrade(self, source: Url, target: Url) -> None:
        """What a server points to is its own fault, and no wish of the user's."""
        weaker = (target.scheme == "file") != (source.scheme == "file") and target.scheme == "file"
        if weaker or (source.scheme == "https" and target.scheme == "http"):
            raise TrustError(f"{source.shown} points to {target.shown}, a less safe place: refused")
        if target.scheme == "http" and not (target.is_loopback or self._allow_http):
            raise TrustError(
                f"{source.shown} points to {target.shown}, plain http: refused without --allow-http"
            )

    # -- trying again ----------------------------------------------------------------------------

    def _with_attempts(
        self,
        attempt: Callable[[], _Answer],
        *,
        where: Url,
        progress: Callable[[], int],
        most: Optional[int] = None,
    ) -> _Answer:
        failures: List[str] = []
        had = progress()
        most = most or ATTEMPTS
        while True:
            self._deadline.check(f"fetching {where.shown}")
            try:
                return attempt()
            except ServedAnewError:
                continue  # it happens once: the part is empty now
            except _transient() as error:
                if progress() > had:
                    had = progress()
                    failures.clear()
                failures.append(str(error))
                if len(failures) >= most:
                    raise DownloadError(
                        f"{where.shown}: {failures[-1]} (tried {most} times): "
                        "check the network, or name another source"
                    ) from error
                self._rest(len(failures), asked=getattr(error, "retry_after", None))

    def _rest(self, failures: int, *, asked: Optional[float]) -> None:
        """Wait before the next attempt; a server's wish is heard up to a part of what is left."""
        own = FIRST_PAUSE * 3 ** min(failures - 1, MOST_STEPS) * (0.5 + os.urandom(1)[0] / 256)
        longest = max(0.0, self._deadline.remaining() / PATIENCE)
        self._pause(min(longest, own if asked is None else max(own, asked)))


class _Again(Exception):  # noqa: N818 - a signal, caught where it is raised
    """This attempt failed, the next may succeed."""

    def __init__(self, text: str, *, retry_after: Optional[float] = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def _transient() -> Tuple[Type[Exception], ...]:
    from apex_installer.get.wire import WireError  # noqa: PLC0415 - see _connected

    return (WireError, _Again)


def _headers(address: Url) -> Dict[str, str]:
    headers = {
        "User-Agent": f"apex-install/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }
    if address.credentials:
        import base64  # noqa: PLC0415 - rare

        raw = re.sub(
            rb"%([0-9A-Fa-f]{2})",
            lambda match: bytes([int(match.group(1), 16)]),
            address.credentials.encode("ascii"),
        )
        headers["Authorization"] = f"Basic {base64.b64encode(raw).decode('ascii')}"
    return headers


def _check_status(response: Response, address: Url, *, accepted: Set[int]) -> None:
    status = response.status
    encoding = response.headers.get("content-encoding", "identity").lower()
    if status in accepted:
        if encoding not in ("", "identity"):
            raise DownloadError(
                f"{address.shown}: sent as {encoding[:20]!r}, which was not asked for"
            )
        return
    if status in MISSING:
        raise NotFoundError(f"{address.shown}: not there (HTTP {status})")
    if status in TRANSIENT:
        seconds = response.headers.get("retry-after", "")
        asked = float(seconds) if re.fullmatch(r"\d{1,9}", seconds) else None
        raise _Again(f"HTTP {status}", retry_after=asked)
    hint = "; put user:token@ before the host" if status in TOKEN_WANTED else ""
    raise DownloadError(f"{address.shown}: HTTP {status}{hint}")


def _collect(response: Response, address: Url, *, limit: int) -> bytes:
    collected = bytearray()
    for piece in _limited(response, address, limit=limit):
        collected += piece
    return bytes(collected)


def _limited(
    response: Response, address: Url, *, limit: int, so: str = "which no such document is"
) -> Iterator[memoryview]:
    too_long = TrustError(f"{address.shown}: longer than {limit} bytes, {so}")
    if response.length is not None and response.length > limit:
        raise too_long
    had = 0
    for piece in response.body():
        had += len(piece)
        if had > limit:
            raise too_long
        yield piece


def _opened(address: Url) -> int:
    path = address.file_path
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFoundError(f"{address.shown}: not there") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DownloadError(f"{address.shown}: {reason}") from error


def _read_file(address: Url, *, limit: int) -> bytes:
    try:
        with open(_opened(address), "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise DownloadError(f"{address.shown}: {error.strerror}") from error
    if len(data) > limit:
        raise TrustError(f"{address.shown}: longer than {limit} bytes, which no such document is")
    return data
