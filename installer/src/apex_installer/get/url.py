"""URLs as we take them: https, http and file, nothing else. Pure.

urllib.parse would do it too; its import costs 20 ms at every pod start, and it accepts far more
than an index should be able to say.
"""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional, Tuple

from apex_installer.errors import TrustError, UsageError

PORTS = {"http": 80, "https": 443}
_ABSOLUTE = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")
_NETWORK = re.compile(
    r"^(https?)://(?:([^/?#@]*)@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?([/?][^#]*)?(?:#.*)?$"
)
_FILE = re.compile(r"^file://(?:localhost)?(/[^?#]*)$")
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")
_LOOPBACK = re.compile(r"^(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])$")


class Url(NamedTuple):
    """One URL, taken apart."""

    scheme: str
    host: str
    """Empty for `file`; an IPv6 address keeps its brackets."""
    port: int
    path: str
    """With the query; for `file` the path as written, still percent-encoded."""
    credentials: str = ""
    """`user:password`, percent-encoded as written; sent to this host alone and never shown."""

    @classmethod
    def parse(cls, text: str) -> Url:
        """Read an absolute URL; UsageError for another scheme, a control character, a bare path."""
        if _NOT_PRINTABLE.search(text):
            raise UsageError(f"{text[:200]!r} is not a URL: percent-encode what is not plain ASCII")
        match = _NETWORK.match(text)
        if match:
            scheme, credentials, host, port, path = match.groups()
            path = path or "/"
            return cls(
                scheme,
                host.lower(),
                int(port or PORTS[scheme]),
                path if path.startswith("/") else f"/{path}",
                credentials or "",
            )
        match = _FILE.match(text)
        if match:
            return cls("file", "", 0, match.group(1))
        hint = f"; write file://{text}" if text.startswith("/") else ""
        raise UsageError(f"{_redacted(text)!r} is not an https://, http:// or file:/// URL{hint}")

    @classmethod
    def of_folder(cls, text: str) -> Url:
        """Parse the address of a folder, whose last `/` people leave out; UsageError as `parse`."""
        return cls.parse(text if text.endswith("/") else f"{text}/")

    @property
    def text(self) -> str:
        """The inverse of `parse`; holds the credentials, so only `shown` is for people."""
        credentials = f"{self.credentials}@" if self.credentials else ""
        return f"{self.scheme}://{credentials}{self.authority}{self.path}"

    @property
    def origin(self) -> Tuple[str, str, int]:
        """What credentials and connections belong to."""
        return self.scheme, self.host, self.port

    @property
    def shown(self) -> str:
        """For logs, reports and errors: without credentials and query, where tokens hide."""
        path, mark, _ = self.path.partition("?")
        return f"{self.scheme}://{self.authority}{path}{'?…' if mark else ''}"

    @property
    def authority(self) -> str:
        """Host, and the port where it is not the scheme's own."""
        default = self.scheme not in PORTS or self.port == PORTS[self.scheme]
        return self.host if default else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it never leaves this machine."""
        return _LOOPBACK.match(self.host) is not None

    @property
    def file_path(self) -> str:
        """Of a `file` URL: the path on disk."""
        raw = re.sub(rb"%([0-9A-Fa-f]{2})", _byte, self.path.encode("ascii"))
        return raw.decode("utf-8", "surrogateescape")

    def joined(self, reference: str) -> Url:
        """Resolve a reference as RFC 3986 §5.2 does; TrustError for one that is no URL."""
        try:
            return self._joined(reference)
        except UsageError as error:
            raise TrustError(f"{self.shown} names a bad address: {error}") from error

    def _joined(self, reference: str) -> Url:
        reference = reference.partition("#")[0]
        if _NOT_PRINTABLE.search(reference):
            raise UsageError(f"{reference[:200]!r} is not a URL")
        if reference.startswith("//"):
            reference = f"{self.scheme}:{reference}"
        if _ABSOLUTE.match(reference):
            url = Url.parse(reference)
            return url._replace(path=_without_dots(url.path))
        base = self.path.partition("?")[0]
        if not reference:
            return self
        if reference.startswith("/"):
            path = reference
        elif reference.startswith("?"):
            path = base + reference
        else:
            path = base[: base.rindex("/") + 1] + reference
        return self._replace(path=_without_dots(path))


def _byte(match: re.Match[bytes]) -> bytes:
    return bytes([int(match.group(1), 16)])


def _redacted(text: str) -> str:
    return re.sub(r"//[^/@]*@", "//", text)


def _without_dots(path: str) -> str:
    path, mark, query = path.partition("?")
    kept: List[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    last: Optional[str] = parts[-1] if parts else None
    if last in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept) + mark + query
