"""Pinned files, from the cache or wherever they can be had: toolkits, build requirements, sources.

Where a file comes from is believed of nobody; its sha256 is.
"""

from __future__ import annotations

from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from apex_installer.deadline import Deadline
from apex_installer.errors import DownloadError
from apex_installer.get.cache import Cache
from apex_installer.get.http import Fetcher, NotFoundError
from apex_installer.get.simple import find_file
from apex_installer.get.url import Url
from apex_installer.threads import map_in_threads

PYPI = "https://pypi.org/simple/"
THREADS = 4
"""Files that are fetched at once, each over a connection of its own."""


class PinnedFile(NamedTuple):
    """One file."""

    file: str
    """Its own name."""
    sha256: str
    size: int
    addresses: Tuple[Callable[[Fetcher], str], ...]
    """Where it may be, best first."""


class Supply:
    """Gets files into one cache within one deadline."""

    def __init__(
        self, *, cache: Cache, deadline: Deadline, allow_http: bool, offline: bool, pypi_url: str
    ) -> None:
        """`cache`: its folder for files; `pypi_url`: the simple index that wheels are found on."""
        self.downloaded = 0
        self.pypi_url = pypi_url
        self.deadline = deadline
        self._cache, self._allow_http, self._offline = cache, allow_http, offline

    def fetcher(self) -> Fetcher:
        """A new one, for one thread."""
        return Fetcher(allow_http=self._allow_http, deadline=self.deadline)

    def has(self, sha256: str) -> bool:
        """Whether the cache holds it, whole."""
        return self._cache.wheel(sha256) is not None

    def get_all(self, wanted: Sequence[PinnedFile]) -> List[str]:
        """Paths, in order; what is missing is fetched, several at once.

        DownloadError, TrustError and DeadlineError as for any file.
        """
        found = [self._cache.wheel(one.sha256) for one in wanted]
        missing = [one for one, path in zip(wanted, found) if path is None]
        # Their places first: where the cache cannot be written, one temporary folder holds all.
        tasks = [(one, self._cache.part_for(one.sha256, size=one.size)) for one in missing]
        self.downloaded += sum(map_in_threads(self._fetch, tasks, threads=THREADS))
        paths = dict(zip([one.sha256 for one in wanted], found))
        for one, part in tasks:
            if paths[one.sha256] is None:
                paths[one.sha256] = self._cache.publish(part, sha256=one.sha256, file=one.file)
        return [str(paths[one.sha256]) for one in wanted]

    def _fetch(self, task: Tuple[PinnedFile, str]) -> int:
        """Bytes that came; by the first address that has the file."""
        one, part = task
        failure: Optional[Exception] = None
        with self.fetcher() as fetcher:
            for address in one.addresses:
                try:
                    url = self.allowed(address(fetcher), one.file)
                    return fetcher.download(url, part, sha256=one.sha256, size=one.size)
                except NotFoundError as error:
                    failure = error
                    continue
                except BaseException:
                    self._cache.keep_part(part)
                    raise
        raise failure or DownloadError(f"{one.file}: no address is known for it")

    def allowed(self, url: str, file: str) -> str:
        """The address; DownloadError for one on a server where `--offline` is asked."""
        if self._offline and Url.parse(url).scheme != "file":
            raise DownloadError(
                f"--offline, and {file} is not in the cache: apex-install prefetch fills it"
            )
        return url

    def on_pypi(self, project: str, file: str) -> Callable[[Fetcher], str]:
        """Its address on the simple index, looked up when it is asked for."""

        def look_up(fetcher: Fetcher) -> str:
            self.allowed(self.pypi_url, file)
            return find_file(self.pypi_url, project, file, fetcher=fetcher)

        return look_up


def at(url: str) -> Callable[[Fetcher], str]:
    """A known address."""
    return lambda _: url


def pypi_url_of(flag: Optional[str], environ: Mapping[str, str]) -> str:
    """`--pypi-url`, else pip's own PIP_INDEX_URL, else PyPI."""
    return flag or environ.get("PIP_INDEX_URL") or PYPI
