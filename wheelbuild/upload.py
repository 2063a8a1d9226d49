"""Upload a wheel with twine to any index that speaks PyPI's legacy API. Repeatable.

twine's own `--skip-existing` refuses every index but PyPI (twine 7.0), so the index's simple page
is asked first. Credentials are twine's variables in the environment, and are never an argument, a
file's or a log's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from base64 import b64encode
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import requests
from packaging.utils import canonicalize_name

from wheelbuild.command import run_command
from wheelbuild.errors import PublishError, UsageError
from wheelbuild.index.admission import read_sha256
from wheelbuild.serve import JSON_API
from wheelbuild.wheelfile import WheelName

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

USERNAME, PASSWORD = "TWINE_USERNAME", "TWINE_PASSWORD"
_PYPI = ("upload.pypi.org", "test.pypi.org", "pypi.org")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TIMEOUT = 60
_UPLOAD_LIMIT = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploaded:
    """How it ended."""

    state: Literal["uploaded", "already"]
    file: str
    to: str

    def __str__(self) -> str:
        return f"{self.file}: {self.state} ({self.to})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The index to upload to."""

    url: str
    """Where twine posts to."""
    simple: str
    """Where its simple API begins, with a slash at the end."""
    username: str
    password: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The password as it might be said by a tool: plain, or in a header."""
        basic = b64encode(f"{self.username}:{self.password}".encode()).decode()
        return (self.password, basic)

    def redact(self, text: str) -> str:
        """`text` without the password, whoever wrote it there."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def upload(
    wheel: Path,
    *,
    to: str,
    environ: Mapping[str, str],
    simple_url: str | None = None,
    allow_http: bool = False,
) -> Uploaded:
    """Upload one wheel, unless the index has it. `simple_url`: where that is not `<to>/simple/`.

    PublishError: the index holds other bytes under the name, cannot be reached, or refused.
    UsageError: no credentials in the environment, credentials in a URL, or http to elsewhere.
    """
    target = parse_target(to, environ=environ, simple_url=simple_url, allow_http=allow_http)
    if _is_held(wheel, target=target):
        return Uploaded(state="already", file=wheel.name, to=target.url)
    # No file of the user's may add a credential or another address.
    words = ["--non-interactive", "--disable-progress-bar", "--config-file", os.devnull]
    words += ["--repository-url", target.url, "--", str(wheel)]
    ran = run_command(
        [sys.executable, "-m", "twine", "upload", *words],
        environ=_environ_for_twine(environ),
        check=False,
        time_limit=_UPLOAD_LIMIT,
    )
    said = target.redact(f"{ran.output}\n{ran.errors}").strip()
    logger.debug("%s", said)
    # Another publisher may have been first with the same bytes: what counts is what is there.
    if ran.code and not _is_held(wheel, target=target):
        raise PublishError(f"{wheel.name}: {target.url} did not take it: {_reason(said)}")
    return Uploaded(state="uploaded", file=wheel.name, to=target.url)


def parse_target(
    to: str, *, environ: Mapping[str, str], simple_url: str | None, allow_http: bool
) -> Target:
    """Read the URL and the environment's credentials; UsageError never repeats a secret."""
    simple = simple_url or f"{to.removesuffix('/').removesuffix('/legacy')}/simple/"
    for url in (to, simple):
        _check_address(url, allow_http=allow_http)
    if not environ.get(PASSWORD):
        raise UsageError(f"{to}: set {USERNAME} and {PASSWORD} to say who uploads")
    return Target(
        url=to,
        simple=simple if simple.endswith("/") else f"{simple}/",
        username=environ.get(USERNAME) or "__token__",
        password=environ[PASSWORD],
    )


def _check_address(url: str, *, allow_http: bool) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise UsageError(
            f"the URL for {parts.hostname} holds credentials: "
            f"put them into {USERNAME} and {PASSWORD}"
        )
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise UsageError(f"{url}: not the web address of an index, such as https://host/legacy/")
    if parts.hostname in _PYPI:
        raise UsageError(f"{url}: PyPI takes no local versions (PEP 440), and ours all have one")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not allow_http:
        raise UsageError(f"{url}: credentials would go unencrypted: use https")


def _is_held(wheel: Path, *, target: Target) -> bool:
    """Whether the index lists these bytes; PublishError where it lists others under the name."""
    name = canonicalize_name(WheelName.parse(wheel.name).distribution)
    found = _fetch_listing(urljoin(target.simple, f"{name}/"), target=target)
    if wheel.name not in found:
        return False
    url, sha256 = found[wheel.name]
    if (sha256 or _fetch_sha256(url, target=target)) != read_sha256(wheel):
        raise PublishError(
            f"{wheel.name}: {target.simple} holds other bytes under this name, and none is ever "
            "overwritten: build with the next build tag"
        )
    return True


def _fetch_listing(url: str, *, target: Target) -> dict[str, tuple[str, str | None]]:
    """File name -> (address, sha256 or None) of a project's simple page, if there is one."""
    accept = f"{JSON_API}, text/html;q=0.5"
    with _get(url, target=target, accept=accept) as response:
        if response.status_code == requests.codes.not_found:
            return {}
        _check_status(response, url)
        if JSON_API not in response.headers.get("Content-Type", ""):
            return parse_html(response.text, url=response.url)
        try:
            return {
                file["filename"]: (urljoin(url, file["url"]), file["hashes"].get("sha256"))
                for file in response.json()["files"]
            }
        except (ValueError, LookupError, TypeError) as error:
            raise PublishError(f"{url}: not a page of the simple API: {error!r}") from error


def parse_html(page: str, *, url: str) -> dict[str, tuple[str, str | None]]:
    """Read the anchors of an HTML page (PEP 503): file name -> (address, sha256 or None)."""
    anchors = _Anchors()
    anchors.feed(page)
    found = {}
    for href in anchors.hrefs:
        address, fragment = urldefrag(urljoin(url, href))
        kind, _, digest = fragment.partition("=")
        name = unquote(urlsplit(address).path.rpartition("/")[2])
        found[name] = (address, digest if kind == "sha256" else None)
    return found


def _fetch_sha256(url: str, *, target: Target) -> str:
    """For an index that lists no sha256: the file itself is asked."""
    with _get(url, target=target, accept="*/*") as response:
        _check_status(response, url)
        return hashlib.sha256(response.content).hexdigest()


def _get(url: str, *, target: Target, accept: str) -> requests.Response:
    """Credentials go to the upload's own server only; `requests` drops them on a redirect away."""
    is_own = urlsplit(url)[:2] == urlsplit(target.url)[:2]
    try:
        return requests.get(
            url,
            headers={"Accept": accept, "Cache-Control": "no-cache"},
            # One that does nothing, since with none `requests` would look into ~/.netrc.
            auth=(target.username, target.password) if is_own else _no_auth,
            timeout=_TIMEOUT,
        )
    except requests.RequestException as error:
        raise PublishError(target.redact(f"{url}: cannot be asked: {error}")) from None


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _check_status(response: requests.Response, url: str) -> None:
    if not response.ok:
        raise PublishError(f"{url}: answered {response.status_code} {response.reason}")


def _environ_for_twine(environ: Mapping[str, str]) -> dict[str, str]:
    """Without a keyring, which would ask the desktop; wide, so that no word is broken."""
    return {
        **environ,
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "TWINE_USERNAME": environ.get(USERNAME) or "__token__",
        "COLUMNS": "400",
        "NO_COLOR": "1",
    }


def _reason(said: str) -> str:
    """Twine's own word for it, or the last that it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1]


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs += [value for name, value in attrs if tag == "a" and name == "href" and value]
