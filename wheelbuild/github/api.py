"""One request to GitHub's REST API, and when it is worth asking again."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import requests

from wheelbuild.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wheelbuild.github.repository import Repository

logger = logging.getLogger(__name__)

ATTEMPTS = 5
_TIMEOUT = (10, 300)
"""Seconds to connect, and between two bytes: a large upload is long, not silent."""
_LONGEST_WAIT = 300.0
_TOO_MANY, _FORBIDDEN, _SERVER = 429, 403, 500


class Refused(PublishError):  # noqa: N818 - a refusal that the caller may understand
    """GitHub said no for good; `status` and `codes` (`already_exists`) say why."""

    def __init__(self, text: str, *, status: int, codes: frozenset[str]) -> None:
        super().__init__(text)
        self.status, self.codes = status, codes


class Interrupted(PublishError):  # noqa: N818
    """Nobody knows whether it was done: the connection broke, or the server failed."""


class Api:
    """Sends the token to the API's own hosts alone; `requests` drops it on a redirect away."""

    def __init__(
        self, repository: Repository, *, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.repository = repository
        self._sleep = sleep

    def ask(self, method: str, path: str, *, body: dict[str, Any] | None = None) -> Any:
        """Return the answer's JSON, None for one without; `path` below the repository's own.

        Only what may be done twice is asked again after a failure that leaves it open: not a POST.
        Refused, or Interrupted: both are PublishErrors that say what and where.
        """
        return _json(self._send(method, self._url(path), may_repeat=method != "POST", json=body))

    def pages(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[Any]:
        """Every item of a list, page by page."""
        words = urlencode({**(query or {}), "per_page": "100"})
        url: str | None = self._url(f"{path}?{words}")
        while url:
            response = self._send("GET", url, may_repeat=True)
            yield from _json(response)
            url = response.links.get("next", {}).get("url")

    def upload(self, url: str, name: str, content: Any) -> Any:
        """POST bytes, or an open file, as an asset called `name`; never asked again here.

        `name` is a parameter: `+` is written `%2B`, else GitHub reads a blank and makes it a dot.
        """
        headers = {"Content-Type": "application/octet-stream"}
        return _json(
            self._send(
                "POST", url, may_repeat=False, params={"name": name}, data=content, headers=headers
            )
        )

    def _url(self, path: str) -> str:
        return f"{self.repository.api_url}/repos/{self.repository.name}{path}"

    def _send(
        self, method: str, url: str, *, may_repeat: bool, **options: Any
    ) -> requests.Response:
        what = f"{method} {urlsplit(url).path}"
        for attempt in range(ATTEMPTS):
            is_last = attempt == ATTEMPTS - 1
            try:
                response = self._once(method, url, **options)
            except requests.RequestException as error:
                said = self.repository.redact(f"{what}: GitHub cannot be asked: {error}")
                if not may_repeat or is_last:
                    raise Interrupted(said) from None
                self._wait(2.0**attempt, said)
                continue
            if response.ok:
                return response
            said = self.repository.redact(f"{what}: {_words(response)}")
            limited = _is_limited(response)
            failed = response.status_code >= _SERVER
            if is_last or not (limited or (failed and may_repeat)):
                if failed or limited:
                    raise Interrupted(said)
                raise Refused(said, status=response.status_code, codes=_codes(response))
            self._wait(_seconds(response, attempt), said)
            _rewind(options.get("data"))
        raise AssertionError("the last attempt ends it")

    def _once(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> requests.Response:
        return requests.request(
            method,
            url,
            timeout=_TIMEOUT,
            auth=self._sign,
            headers={
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
                **(headers or {}),
            },
            **options,
        )

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Also keeps `requests` from looking into ~/.netrc."""
        request.headers["Authorization"] = f"Bearer {self.repository.token}"
        return request

    def _wait(self, seconds: float, why: str) -> None:
        logger.warning("%s; again in %.0f s", why, seconds)
        self._sleep(seconds)


def _json(response: requests.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        raise Interrupted(f"{urlsplit(response.url).path}: GitHub's answer is not JSON") from None


def _is_limited(response: requests.Response) -> bool:
    """Asked too often: the primary limit, or a secondary one that only its words tell."""
    if response.status_code == _TOO_MANY:
        return True
    return response.status_code == _FORBIDDEN and (
        "Retry-After" in response.headers
        or response.headers.get("X-RateLimit-Remaining") == "0"
        or "rate limit" in response.text.lower()
    )


def _seconds(response: requests.Response, attempt: int) -> float:
    """As the server asks, else 1, 2, 4, 8; a secondary limit that names none wants a minute."""
    asked = response.headers.get("Retry-After", "")
    if asked.isdigit():
        return min(float(asked), _LONGEST_WAIT)
    reset = response.headers.get("X-RateLimit-Reset", "")
    if response.headers.get("X-RateLimit-Remaining") == "0" and reset.isdigit():
        return min(max(float(reset) - time.time(), 1.0), _LONGEST_WAIT)
    return (60.0 if _is_limited(response) else 1.0) * 2.0**attempt


def _rewind(data: Any) -> None:
    if hasattr(data, "seek"):
        data.seek(0)


def _words(response: requests.Response) -> str:
    """`422 Validation Failed (name already_exists)`."""
    said = _body(response)
    message = said.get("message") or response.reason or "no reason"
    errors = [
        " ".join(str(error[key]) for key in ("field", "code") if key in error)
        for error in said.get("errors", ())
        if isinstance(error, dict)
    ]
    why = f" ({'; '.join(errors)})" if errors else ""
    return f"{response.status_code} {message}{why}"


def _codes(response: requests.Response) -> frozenset[str]:
    errors = _body(response).get("errors", ())
    return frozenset(str(error.get("code")) for error in errors if isinstance(error, dict))


def _body(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
