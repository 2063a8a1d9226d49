"""A GitHub on the loopback interface: releases, assets, Pages builds, and git, as the real one.

What it does as GitHub does, since the farm must live with it: an asset's name that is taken is
refused with 422 `already_exists`; an upload that breaks off leaves an asset in state `starter`,
which takes the name; `+` in a query is a blank, and runs of odd characters become one dot; lists
come in pages; uploads go to a host of their own; a download is a redirect to yet another one; a
draft is found by no tag; asked too often, it answers 403 with Retry-After; a second open pull
request from one branch is refused with 422, and any from a workflow with 403 unless the setting
allows it.

Each request can be met with a fault: `github.faults[n]` is called before the n-th (from 0) is
handled; what it returns says what becomes of it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import json
import os
import re
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "ghs_" + 36 * "T"
REPOSITORY = "Someone/farm"
_OWNER = REPOSITORY.partition("/")[0]
_BACKEND = "/usr/lib/git-core/git-http-backend"


@dataclass
class Fault:
    """`before`: not handled; `after`: handled, not answered; `half`: half of the body was read."""

    when: str
    then: Callable[[], object] = lambda: None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass
class Asset:
    number: int
    name: str
    content: bytes
    state: str = "uploaded"


@dataclass
class Release:
    number: int
    tag: str
    draft: bool
    latest: bool
    assets: dict[int, Asset] = field(default_factory=dict)

    def named(self, name: str) -> Asset | None:
        return next((one for one in self.assets.values() if one.name == name), None)


@dataclass
class PullRequest:
    number: int
    head: str
    title: str
    body: str
    state: str = "open"
    merged_at: str | None = None


@dataclass
class FakeGitHub:
    folder: Path
    page: int = 100
    """Most items of one page of a list."""
    capacity: int = 1000
    keeps_plus: bool = True
    pages_enabled: bool = True
    releases: dict[int, Release] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)
    pulls: list[PullRequest] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    """As GitHub lists them: `title`, `body`, `state`, `labels` of names."""
    may_open_pulls: bool = True
    """The setting "Allow GitHub Actions to create and approve pull requests"."""
    builds: int = 0
    """How often Pages were asked to be built."""
    strangers: list[str] = field(default_factory=list)
    """Requests to a host that must not see the token, and did."""
    port = upload_port = cdn_port = 0
    numbers: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def git(self) -> Path:
        return self.folder / f"{REPOSITORY}.git"

    def environ(self) -> dict[str, str]:
        return {
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_API_URL": f"{self.url}/api",
            "GITHUB_SERVER_URL": self.url,
            "GITHUB_REPOSITORY": REPOSITORY,
        }

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def release(self, tag: str) -> Release | None:
        found = (one for one in self.releases.values() if one.tag == tag and not one.draft)
        return next(found, None)

    def names(self, tag: str) -> list[str]:
        release = self.release(tag)
        return sorted(one.name for one in release.assets.values()) if release else []

    def add_release(self, tag: str, *, draft: bool = False, latest: bool = False) -> Release:
        made = Release(self.number(), tag, draft, latest)
        self.releases[made.number] = made
        return made

    def add_asset(self, release: Release, name: str, content: bytes, state: str) -> Asset:
        made = Asset(self.number(), name, content, state)
        release.assets[made.number] = made
        return made

    def rename(self, name: str) -> str:
        kept = "" if not self.keeps_plus else "+"
        return re.sub(rf"[^A-Za-z0-9@_.{kept}-]+", ".", name)

    def has_branch(self, branch: str) -> bool:
        words = ["git", "-C", str(self.git), "rev-parse", "--quiet", "--verify", branch]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def checkout(self, branch: str) -> Path | None:
        """The branch's tree as a folder, or None where there is no such branch."""
        out = self.folder / f"checkout-{self.number()}"
        words = ["git", "clone", "-q", "--branch", branch, str(self.git), str(out)]
        done = subprocess.run(words, capture_output=True, check=False)
        return out if done.returncode == 0 else None


@contextmanager
def serve_github(folder: Path, **options: Any) -> Iterator[FakeGitHub]:
    github = FakeGitHub(folder, **options)
    github.git.parent.mkdir(parents=True, exist_ok=True)
    git = ["git", "init", "-q", "--bare", "-b", "main", str(github.git)]
    subprocess.run(git, check=True)
    subprocess.run(["git", "-C", github.git, "config", "http.receivepack", "true"], check=True)
    servers = [_serve(github, kind) for kind in (_Api, _Upload, _Cdn)]
    github.port, github.upload_port, github.cdn_port = (one.server_port for one in servers)
    try:
        yield github
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _serve(github: FakeGitHub, kind: type[_Handler]) -> http.server.ThreadingHTTPServer:
    handler = type(kind.__name__, (kind,), {"github": github})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


class _GoneError(Exception):
    """The connection is closed without an answer."""


class _Handler(http.server.BaseHTTPRequestHandler):
    github: FakeGitHub
    protocol_version = "HTTP/1.1"
    counted = True

    def handle_any(self) -> None:
        if self.counted:
            number = len(self.github.requests)
            self.github.requests.append(f"{self.command} {urlsplit(self.path).path}")
            self.fault = self.github.faults.get(number)
        else:
            self.fault = None
        try:
            if self.fault and self.fault.when == "before":
                self._fail()
            self.answer()
        except _GoneError:
            self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def _fail(self) -> None:
        self.fault.then()
        if self.fault.status is None:
            raise _GoneError
        if self.fault.when == "before":
            self.read_body()
        status, body = self.fault.status, self.fault.body
        headers, self.fault = self.fault.headers, None
        self.send(status, body, headers)
        raise _GoneError

    def answer(self) -> None:
        raise NotImplementedError

    def read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        if self.fault and self.fault.when == "after":
            self._fail()
        content = body if isinstance(body, bytes) else b"" if body is None else _dump(body)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status: int, message: str, *codes: str) -> None:
        errors = [{"resource": "ReleaseAsset", "field": "name", "code": code} for code in codes]
        self.send(status, {"message": message, **({"errors": errors} if errors else {})})

    def is_known(self) -> bool:
        given = self.headers.get("Authorization", "")
        basic = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        return given in {f"Bearer {TOKEN}", f"basic {basic}", f"Basic {basic}"}

    def log_message(self, *_: object) -> None:
        pass


def _dump(body: Any) -> bytes:
    return json.dumps(body).encode()


class _Api(_Handler):
    """api.github.com below /api, github.com beside it."""

    def answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if path.startswith("/api/"):
            self._answer_api(path.removeprefix(f"/api/repos/{REPOSITORY}"), parse_qs(url.query))
        elif path.startswith(f"/{REPOSITORY}.git/"):
            self._answer_git(path, url.query)
        elif found := re.fullmatch(rf"/{REPOSITORY}/releases/download/([^/]+)/([^/]+)", path):
            self._redirect(self.github.release(found[1]), found[2])
        elif found := re.fullmatch(rf"/{REPOSITORY}/releases/latest/download/([^/]+)", path):
            latest = [one for one in self.github.releases.values() if one.latest]
            self._redirect(latest[-1] if latest else None, found[1])
        else:
            self.refuse(404, "Not Found")

    def _answer_api(self, path: str, query: dict[str, list[str]]) -> None:
        body = self.read_body()
        if not self.is_known():
            self.refuse(401, "Bad credentials")
            return
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                answer(self, query, json.loads(body) if body else {}, *found.groups())
                return
        self.refuse(404, f"Not Found: {self.command} {path}")

    def find(self, _query: object, _body: object, tag: str) -> None:
        release = self.github.release(tag)
        self.send(200, self.shown(release)) if release else self.refuse(404, "Not Found")

    def list_releases(self, query: dict[str, list[str]], _body: object) -> None:
        self.paginate([self.shown(one) for one in self.github.releases.values()], query)

    def create(self, _query: object, body: dict[str, Any]) -> None:
        if self.github.release(body["tag_name"]) and not body["draft"]:
            self.refuse(422, "Validation Failed", "already_exists")
            return
        made = self.github.add_release(
            body["tag_name"], draft=body["draft"], latest=body.get("make_latest") == "true"
        )
        self.send(201, self.shown(made))

    def change(self, _query: object, body: dict[str, Any], number: str) -> None:
        release = self.github.releases.get(int(number))
        if release is None:
            self.refuse(404, "Not Found")
            return
        release.draft = body.get("draft", release.draft)
        release.latest = body.get("make_latest") == "true"
        self.send(200, self.shown(release))

    def delete(self, _query: object, _body: object, number: str) -> None:
        gone = self.github.releases.pop(int(number), None)
        self.send(204) if gone else self.refuse(404, "Not Found")

    def list_assets(self, query: dict[str, list[str]], _body: object, number: str) -> None:
        release = self.github.releases[int(number)]
        self.paginate([_shown_asset(one) for one in release.assets.values()], query)

    def delete_asset(self, _query: object, _body: object, number: str) -> None:
        for release in self.github.releases.values():
            if release.assets.pop(int(number), None):
                self.send(204)
                return
        self.refuse(404, "Not Found")

    def build_pages(self, _query: object, _body: object) -> None:
        if not self.github.pages_enabled:
            self.refuse(404, "Not Found")
            return
        self.github.builds += 1
        self.send(201, {"status": "queued"})

    def show_repository(self, _query: object, _body: object) -> None:
        self.send(200, {"full_name": REPOSITORY, "default_branch": "main"})

    def list_issues(self, query: dict[str, list[str]], _body: object) -> None:
        """Open ones alone unless asked otherwise; pull requests are among them."""
        state, labels = query.get("state", ["open"])[0], query.get("labels", [""])[0]
        pulls = [
            {"title": one.title, "body": one.body, "state": one.state, "pull_request": {}}
            for one in self.github.pulls
        ]
        found = [
            one
            for one in [*self.github.issues, *pulls]
            if state in {"all", one["state"]}
            if not labels or labels in one.get("labels", [labels])  # a pull has every one
        ]
        self.paginate(found, query)

    def list_pulls(self, query: dict[str, list[str]], _body: object) -> None:
        state, (head,) = query.get("state", ["open"])[0], query["head"]
        found = [one for one in self.github.pulls if head == f"{_OWNER}:{one.head}"]
        chosen = [one for one in found if state in {"all", one.state}]
        self.paginate([self._pull(one) for one in reversed(chosen)], query)

    def open_pull(self, _query: object, body: dict[str, Any]) -> None:
        if not self.github.may_open_pulls:
            said = "GitHub Actions is not permitted to create or approve pull requests."
            self.refuse(403, said)
        elif any((one.head, one.state) == (body["head"], "open") for one in self.github.pulls):
            self.refuse(422, "Validation Failed", "custom")
        elif not self.github.has_branch(body["head"]) or body["base"] != "main":
            self.refuse(422, "Validation Failed", "invalid")
        else:
            made = PullRequest(self.github.number(), body["head"], body["title"], body["body"])
            self.github.pulls.append(made)
            self.send(201, self._pull(made))

    def change_pull(self, _query: object, body: dict[str, Any], number: str) -> None:
        pull = next(one for one in self.github.pulls if one.number == int(number))
        pull.title, pull.body = body.get("title", pull.title), body.get("body", pull.body)
        self.send(200, self._pull(pull))

    def _pull(self, pull: PullRequest) -> dict[str, Any]:
        url = f"{self.github.url}/{REPOSITORY}/pull/{pull.number}"
        return {**vars(pull), "html_url": url, "head": {"ref": pull.head}}

    def shown(self, release: Release) -> dict[str, Any]:
        upload = f"http://127.0.0.1:{self.github.upload_port}/repos/{REPOSITORY}/releases"
        return {
            "id": release.number,
            "tag_name": release.tag,
            "draft": release.draft,
            "upload_url": f"{upload}/{release.number}/assets{{?name,label}}",
        }

    def paginate(self, items: list[Any], query: dict[str, list[str]]) -> None:
        size = min(int(query.get("per_page", ["30"])[0]), self.github.page)
        page = int(query.get("page", ["1"])[0])
        headers = {}
        if page * size < len(items):
            path = urlsplit(self.path).path
            words = urlencode({**{name: one for name, (one,) in query.items()}, "page": page + 1})
            headers["Link"] = f'<{self.github.url}{path}?{words}>; rel="next"'
        self.send(200, items[(page - 1) * size : page * size], headers)

    def _redirect(self, release: Release | None, name: str) -> None:
        found = release.named(name) if release else None
        if found is None or found.state != "uploaded":
            self.refuse(404, "Not Found")
            return
        place = f"http://localhost:{self.github.cdn_port}/{found.number}?sig=abc"
        self.send(302, None, {"Location": place})

    def _answer_git(self, path: str, query: str) -> None:
        body = self.read_body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if not self.is_known():
            self.send(401, None, {"WWW-Authenticate": 'Basic realm="GitHub"'})
            return
        environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "GIT_PROJECT_ROOT": str(self.github.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": "token",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run([_BACKEND], input=body, env=environ, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        self.send(status, content, headers)


_ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("GET", r"/releases/tags/([^/]+)", _Api.find),
    ("GET", r"/releases", _Api.list_releases),
    ("POST", r"/releases", _Api.create),
    ("PATCH", r"/releases/(\d+)", _Api.change),
    ("DELETE", r"/releases/(\d+)", _Api.delete),
    ("GET", r"/releases/(\d+)/assets", _Api.list_assets),
    ("DELETE", r"/releases/assets/(\d+)", _Api.delete_asset),
    ("POST", r"/pages/builds", _Api.build_pages),
    ("GET", r"", _Api.show_repository),
    ("GET", r"/issues", _Api.list_issues),
    ("GET", r"/pulls", _Api.list_pulls),
    ("POST", r"/pulls", _Api.open_pull),
    ("PATCH", r"/pulls/(\d+)", _Api.change_pull),
)


def _shown_asset(asset: Asset) -> dict[str, Any]:
    whole = asset.state == "uploaded"
    digest = f"sha256:{hashlib.sha256(asset.content).hexdigest()}" if whole else None
    return {
        "id": asset.number,
        "name": asset.name,
        "size": len(asset.content),
        "state": asset.state,
        "digest": digest,
    }


class _Upload(_Handler):
    """uploads.github.com."""

    def answer(self) -> None:
        url = urlsplit(self.path)
        name = self.github.rename(parse_qs(url.query)["name"][0])
        release = self.github.releases[int(url.path.split("/")[-2])]
        length = int(self.headers["Content-Length"])
        if not self.is_known():
            self.refuse(401, "Bad credentials")
        elif release.named(name):
            self.read_body()
            self.refuse(422, "Validation Failed", "already_exists")
        elif len(release.assets) >= self.github.capacity:
            self.read_body()
            self.refuse(422, "Validation Failed", "file_count")
        else:
            made = self.github.add_asset(release, name, b"", "starter")
            if self.fault and self.fault.when == "half":
                made.content = self.rfile.read(length // 2)
                self._fail()
            content = self.rfile.read(length)
            if len(content) < length:
                raise _GoneError
            made.content, made.state = content, "uploaded"
            self.send(201, _shown_asset(made))


class _Cdn(_Handler):
    """Where downloads come from: it knows no token, and must be given none."""

    counted = False

    def answer(self) -> None:
        if "Authorization" in self.headers:
            self.github.strangers.append(self.path)
        number = int(urlsplit(self.path).path[1:])
        for release in self.github.releases.values():
            if number in release.assets:
                self._send_ranges(release.assets[number].content)
                return
        self.refuse(404, "Not Found")

    do_HEAD = _Handler.handle_any  # noqa: N815

    def _send_ranges(self, content: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not found:
            self.send(200, content, {"Content-Type": "application/octet-stream"})
            return
        end = min(int(found[2] or len(content) - 1), len(content) - 1)
        piece = content[int(found[1]) : end + 1]
        self.send(206, piece, {"Content-Range": f"bytes {found[1]}-{end}/{len(content)}"})
