"""Reads pages from the web by requests: with time-outs, tries again, and errors of one line."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

import requests

from wheelbuild.errors import IndexReadError

logger = logging.getLogger(__name__)

CONNECT, READ = 10, 60
"""Seconds to be connected, and between two pieces of an answer."""
TRIES = 4
FIRST_PAUSE = 1.0
"""Seconds before the second try; each further pause is twice as long."""
MAX_PAUSE = 60.0
"""What a `Retry-After` may ask for at most, in seconds."""
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be others in a moment (RFC 9110)."""
_PASSING = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,  # the connection ended within the body
)
MAX_SIZE = 64 << 20
"""Bytes of one page: the simple page of a project of 10,000 files is 10 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a server answered."""

    url: str
    """After redirects: what relative addresses are relative to."""
    content: bytes
    kind: str
    """Media type, without parameters."""
    total: int = 0
    """Bytes of the whole file where a range was asked for."""


class Web:
    """One session per thread: connections are kept, since many pages come from one server."""

    def __init__(
        self, *, tries: int = TRIES, pause: float = FIRST_PAUSE, connect: float = CONNECT
    ) -> None:
        self.tries, self.pause, self.connect = tries, pause, connect
        self._own = threading.local()

    def get(self, url: str, *, accept: str = "*/*", span: str = "") -> Page | None:
        """Fetch one page; None where the server says that it is not there (404, 410).

        `span` is a range of bytes (RFC 9110, 14.2): `0-99`, `-99`. Tried again where that may
        help. IndexReadError names the address and what went wrong last.
        """
        headers = {"Accept": accept, **({"Range": f"bytes={span}"} if span else {})}
        said, pause = "", self.pause
        for left in reversed(range(self.tries)):
            try:
                with self._session().get(
                    url, headers=headers, timeout=(self.connect, READ), stream=True
                ) as answer:
                    if answer.status_code in {404, 410}:
                        return None
                    if answer.ok:
                        return _page(answer, whole=not span)
                    said = f"HTTP {answer.status_code} {answer.reason}"
                    if answer.status_code not in AGAIN:
                        break
                    pause = max(pause, _retry_after(answer))
            except _PASSING as error:
                said = _words(error)
            except requests.RequestException as error:
                raise IndexReadError(f"{url}: {error}") from error
            if left:
                logger.debug("%s: %s; again in %.0f s", url, said, pause)
                time.sleep(pause)
                pause *= 2
        raise IndexReadError(f"{url}: cannot be read: {said}")

    def size(self, url: str) -> int:
        """Bytes of a file, by a range of one byte; IndexReadError where that is not to be had."""
        page = self.get(url, span="0-0")
        if page is None or not page.total:
            raise IndexReadError(f"{url}: the server does not say how long it is")
        return page.total

    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
        session: requests.Session = self._own.session
        return session


def _page(answer: requests.Response, *, whole: bool) -> Page:
    """The answer's body, bounded; requests itself notices one that is shorter than promised."""
    if not whole and answer.status_code != requests.codes.partial_content:
        raise IndexReadError(f"{answer.url}: the server sends no ranges")
    pieces, size = [], 0
    for piece in answer.iter_content(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_SIZE:
            raise IndexReadError(f"{answer.url}: more than {MAX_SIZE >> 20} MiB: not a page")
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return Page(
        url=answer.url,
        content=b"".join(pieces),
        kind=kind,
        total=int(total) if total.isdigit() else 0,
    )


def _retry_after(answer: requests.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), MAX_PAUSE) if text.isdigit() else 0.0


def _words(error: requests.RequestException) -> str:
    """The innermost reason: requests wraps urllib3's, which wraps the system's."""
    inner: BaseException = error
    while (below := inner.__cause__ or inner.__context__) is not None:
        inner = below
    text = str(inner).rpartition(": ")[2] or type(inner).__name__
    return "no answer in time" if isinstance(error, requests.Timeout) else text
