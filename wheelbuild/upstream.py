"""Which builds of torch there are: read from PyPI and from PyTorch's own index.

PyPI holds one CUDA per release and does not say which: it stands in what the wheel requires. On
PyTorch's index it stands in the version.
"""

from __future__ import annotations

import io
import json
import logging
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin

from wheelbuild.errors import IndexReadError
from wheelbuild.serve import HTML_API, JSON_API
from wheelbuild.wheelfile import parse_headers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apex_installer.model.arch import Version
    from wheelbuild.web import Page, Web

logger = logging.getLogger(__name__)

PYPI = "https://pypi.org/simple"
PYTORCH = "https://download.pytorch.org/whl"
AT_ONCE = 8
BLOCK = 1 << 18
"""Bytes per request of a wheel that is read in parts; its list of files is about 1.5 MB."""
_ACCEPT = f"{JSON_API}, {HTML_API};q=0.2, text/html;q=0.1"
_WHEEL = re.compile(
    r"torch-(?P<release>\d+\.\d+\.\d+)(?:\+cu(?P<cuda>\d{3}))?-cp\d+-(?P<python>cp\d+t?)-"
    r"(?P<platform>[\w.]*linux[\w.]*)\.whl"
)
_POLICY = re.compile(r"manylinux_\d+_\d+")
_CUDA = (
    re.compile(r"cuda-toolkit(?:\[[^\]]*\])?\s*\(?==(\d+)\.(\d+)"),
    re.compile(r"nvidia-cuda-runtime(?:-cu\d+)?\s*\(?==(\d+)\.(\d+)"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One wheel of torch for Linux, by its name on a page."""

    release: tuple[int, ...]
    cuda: Version | None
    """As its version says; None on PyPI."""
    python: str
    policy: str
    """`manylinux_2_28` where the name says so, else empty."""
    url: str

    @property
    def minor(self) -> Version:
        """`(2, 4)`."""
        return self.release[0], self.release[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchBuild:
    """One release of torch for one CUDA."""

    release: tuple[int, ...]
    cuda: Version
    pythons: tuple[str, ...]
    index: str
    """PyPI's or PyTorch's own address, not that of a mirror: it goes into the matrix."""
    policy: str

    @property
    def text_release(self) -> str:
        """`2.4.0`."""
        return ".".join(map(str, self.release))

    @property
    def text(self) -> str:
        """`2.4.0+cu121`."""
        return f"{self.text_release}+cu{self.cuda[0]}{self.cuda[1]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """All builds, by release and CUDA, and what could not be read."""

    builds: tuple[TorchBuild, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Reading:
    notes: list[str] = field(default_factory=list)
    builds: list[TorchBuild] = field(default_factory=list)


def read_upstream(
    *, web: Web, pypi: str, pytorch: str, cudas: Iterable[Version], least: Version, platform: str
) -> Upstream:
    """Every build of torch from the minor `least` on; of PyTorch's index those for `cudas`.

    `pypi` and `pytorch` are their addresses, or those of mirrors.

    IndexReadError where PyPI cannot be read; PyTorch's index may be out of reach, with a note.
    """
    reading = _Reading()
    page = web.get(f"{pypi.rstrip('/')}/torch/", accept=_ACCEPT)
    if page is None:
        raise IndexReadError(f"{pypi}: has no torch: is this the address of a simple index?")
    wheels = [one for one in parse_page(page, platform=platform) if one.minor >= least]
    _add_pypi(reading, wheels, web=web)
    _add_pytorch(reading, web, pytorch.rstrip("/"), cudas, least=least, platform=platform)
    builds = sorted(reading.builds, key=lambda one: (one.release, one.cuda, one.index != PYPI))
    return Upstream(builds=tuple(builds), notes=tuple(reading.notes))


def _add_pypi(reading: _Reading, wheels: list[Wheel], *, web: Web) -> None:
    releases = sorted({wheel.release for wheel in wheels})
    of = {one: [wheel for wheel in wheels if wheel.release == one] for one in releases}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        cudas = list(pool.map(lambda one: _find_cuda(of[one], web), releases))
    for release, cuda in zip(releases, cudas, strict=True):
        if cuda is None:
            text = ".".join(map(str, release))
            reading.notes.append(f"torch {text}: its METADATA on PyPI names no CUDA")
        else:
            reading.builds += _builds(of[release], cuda=cuda, index=PYPI)


def _add_pytorch(
    reading: _Reading,
    web: Web,
    root: str,
    cudas: Iterable[Version],
    *,
    least: Version,
    platform: str,
) -> None:
    """Stops at the first page that cannot be read: the others are of the same server."""
    for cuda in sorted(set(cudas)):
        tag = f"cu{cuda[0]}{cuda[1]}"
        try:
            page = web.get(f"{root}/{tag}/torch/", accept="text/html")
        except IndexReadError as error:
            reading.notes.append(f"{error}; PyTorch's own index is left out")
            return
        found = parse_page(page, platform=platform) if page else ()
        wheels = [one for one in found if one.minor >= least and one.cuda == cuda]
        for release in sorted({wheel.release for wheel in wheels}):
            same = [wheel for wheel in wheels if wheel.release == release]
            reading.builds += _builds(same, cuda=cuda, index=f"{PYTORCH}/{tag}")


def _builds(wheels: list[Wheel], *, cuda: Version, index: str) -> list[TorchBuild]:
    pythons = sorted({wheel.python for wheel in wheels}, key=python_order)
    policies = {wheel.policy for wheel in wheels}
    return [
        TorchBuild(
            release=wheels[0].release,
            cuda=cuda,
            pythons=tuple(pythons),
            index=index,
            policy=policies.pop() if len(policies) == 1 else "",
        )
    ]


def python_order(tag: str) -> tuple[int, str]:
    """Key by which cp39 comes before cp310, and cp313 before cp313t."""
    return int(re.sub(r"\D", "", tag)), tag


# --- pages


def parse_page(page: Page, *, platform: str) -> tuple[Wheel, ...]:
    """Final releases of torch for a platform (`linux_x86_64`) on a project's simple page. Pure."""
    machine = platform.partition("_")[2]
    found = []
    for name, url in _links(page):
        match = _WHEEL.fullmatch(name)
        if match is None or not match["platform"].endswith(f"_{machine}"):
            continue
        cuda = match["cuda"]
        policy = _POLICY.search(match["platform"])
        found.append(
            Wheel(
                release=tuple(map(int, match["release"].split("."))),
                cuda=(int(cuda[:2]), int(cuda[2])) if cuda else None,
                python=match["python"],
                policy=policy[0] if policy else "",
                url=urljoin(page.url, url),
            )
        )
    return tuple(found)


def _links(page: Page) -> list[tuple[str, str]]:
    """(file name, address) of all that is not yanked; PEP 691 or PEP 503."""
    if page.kind != JSON_API:
        anchors = _Anchors()
        anchors.feed(page.content.decode("utf-8", "replace"))
        return anchors.found
    try:
        files: list[dict[str, Any]] = json.loads(page.content)["files"]
        return [(one["filename"], one["url"]) for one in files if not one.get("yanked")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexReadError(f"{page.url}: not a simple page (PEP 691): {error!r}") from error


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        href = named.get("href")
        if tag == "a" and href and "data-yanked" not in named:
            url = urldefrag(href).url
            self.found.append((unquote(url.rpartition("/")[2]), url))


# --- which CUDA


def cuda_of(metadata: str) -> Version | None:
    """The CUDA minor that a torch requires; None for one that requires none. Pure."""
    lines = parse_headers(metadata).get_all("Requires-Dist") or []
    for pattern in _CUDA:
        for line in lines:
            match = pattern.match(line)
            if match:
                return int(match[1]), int(match[2])
    return None


def _find_cuda(wheels: list[Wheel], web: Web) -> Version | None:
    """By the sidecar (PEP 658) of any of a release's wheels, else out of one wheel by ranges."""
    for wheel in wheels:
        page = web.get(f"{wheel.url}.metadata")
        if page is not None:
            return cuda_of(page.content.decode("utf-8", "replace"))
    logger.info("%s: no sidecar: read by ranges", wheels[0].url.rpartition("/")[2])
    try:
        return cuda_of(_metadata_inside(wheels[0].url, web))
    except IndexReadError as error:
        logger.info("%s", error)
        return None


def _metadata_inside(url: str, web: Web) -> str:
    try:
        with zipfile.ZipFile(_Remote(url, web)) as archive:
            name = next(n for n in archive.namelist() if re.fullmatch(r"torch-.*/METADATA", n))
            return archive.read(name).decode("utf-8", "replace")
    except (zipfile.BadZipFile, StopIteration, EOFError) as error:
        raise IndexReadError(f"{url}: not a wheel of torch: {error!r}") from error


class _Remote(io.RawIOBase):
    """A file on a server, block by block."""

    def __init__(self, url: str, web: Web) -> None:
        self.url, self.web, self.at = url, web, 0
        self.blocks: dict[int, bytes] = {}
        self.size = web.size(url)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def read(self, size: int = -1) -> bytes:
        stop = self.size if size < 0 else min(self.at + size, self.size)
        numbers = range(self.at // BLOCK, -(-stop // BLOCK)) if stop > self.at else range(0)
        data = b"".join(self._block(number) for number in numbers)
        first = self.at - numbers.start * BLOCK
        taken = data[first : first + stop - self.at]
        self.at += len(taken)
        return taken

    def _block(self, number: int) -> bytes:
        if number not in self.blocks:
            last = min((number + 1) * BLOCK, self.size) - 1
            page = self.web.get(self.url, span=f"{number * BLOCK}-{last}")
            if page is None:
                raise IndexReadError(f"{self.url}: not there any more")
            self.blocks[number] = page.content
        return self.blocks[number]
