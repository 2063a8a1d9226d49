"""The cache of wheels, by sha256: correct by atomic publish on any file system, without locks.

    <cache>/wheels/<sha256>/<wheel file name>      whole; hashed again at every use
    <cache>/wheels/<sha256>.part                   left by an earlier run, to be continued
    <cache>/wheels/<sha256>.part.<pid>-<random>    being filled by one run
    <cache>/files/…                                the same for a toolkit's archives and sources

What lies beside `wheels` is said where it is made: `results`, `lease`, `failures`, `documents`,
`litter`.

One that cannot be written is survived: a temporary directory takes its place for this run.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from typing import FrozenSet, List, Mapping, Optional, Tuple

from apex_installer.closing import Closing
from apex_installer.errors import DownloadError, UsageError
from apex_installer.values import dataclass

VOLUMES = ("/runpod-volume", "/workspace")
"""Where pods mount what outlives them."""
VARIABLE = "APEX_INSTALL_CACHE_DIR"
PASSING = ("", "tmpfs", "ramfs", "devtmpfs", "overlay")
"""File systems that go with the pod, or that cannot be told."""
NAME = "apex-install"
STALE_SECONDS = 600
"""A part that nobody has written to for so long belongs to a run that was killed."""
CHUNK = 256 * 1024
SPARE_BYTES = 1 << 20
"""What a disk must have beyond a file that is to be put there."""
SPARE_FILES = 4
"""A part, a folder, and two that others make meanwhile."""


@dataclass(frozen=True)
class CacheLocation:
    """Where the cache is, and what the report says of it."""

    directory: str
    why: str
    """`--cache-dir`, `/workspace is a mount`, `XDG_CACHE_HOME`, `~/.cache`, `no home`."""
    outlives_pod: bool
    """As far as can be known: a mounted volume does."""


def find_cache(
    *,
    flag: Optional[str],
    environ: Mapping[str, str],
    volumes: Tuple[str, ...] = VOLUMES,
) -> CacheLocation:
    """Decide by flag, variable, volume, XDG; makes nothing. UsageError for a relative flag."""
    named = flag or environ.get(VARIABLE)
    if named:
        if not os.path.isabs(named):
            raise UsageError(f"--cache-dir {named}: give an absolute path")
        outlives = _is_below(named, volumes) or _is_on_a_volume(named)
        return CacheLocation(named, "--cache-dir", outlives_pod=outlives)
    for volume in volumes:
        if os.path.ismount(volume) and os.access(volume, os.W_OK):
            directory = os.path.join(volume, f".{NAME}")
            return CacheLocation(directory, f"{volume} is a mount", outlives_pod=True)
    xdg, home = environ.get("XDG_CACHE_HOME", ""), environ.get("HOME", "")
    if os.path.isabs(xdg):
        return CacheLocation(os.path.join(xdg, NAME), "XDG_CACHE_HOME", outlives_pod=False)
    if os.path.isabs(home):
        return CacheLocation(os.path.join(home, ".cache", NAME), "~/.cache", outlives_pod=False)
    return CacheLocation(_temporary_name(environ), "no home", outlives_pod=False)


def _is_below(path: str, volumes: Tuple[str, ...]) -> bool:
    return any(path.startswith(f"{volume}/") and os.path.ismount(volume) for volume in volumes)


def _is_on_a_volume(path: str) -> bool:
    """Whether it lies on a mount that is neither the container's own disk nor memory."""
    while path != "/" and not os.path.ismount(path):
        path = os.path.dirname(path)
    return path != "/" and file_system(path) not in PASSING


def file_system(mount: str) -> str:
    """What is mounted there, as the kernel names it: `nfs4`, `overlay`; empty if it is not told."""
    found = ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 2 and fields[1] == mount:  # noqa: PLR2004 - proc(5)
                    found = fields[2]  # the last one mounted there is what is seen
    except OSError:
        return ""
    return found


def _temporary_name(environ: Mapping[str, str]) -> str:
    parent = environ.get("TMPDIR") or "/tmp"  # noqa: S108 - made 0700, and refused if another's
    return os.path.join(parent, f"{NAME}-{os.getuid()}")


class Cache(Closing):
    """Wheels by sha256. A context manager: the end removes a temporary directory."""

    def __init__(
        self,
        location: CacheLocation,
        *,
        environ: Optional[Mapping[str, str]] = None,
        folder: str = "wheels",
    ) -> None:
        """Touches nothing until it is asked for something; `environ` names TMPDIR."""
        self.location = location
        self._findings: List[str] = []
        self._environ = os.environ if environ is None else environ
        self._wheels = os.path.join(location.directory, folder)
        self._trusted: Optional[bool] = None
        self._temporary: Optional[str] = None

    def files(self) -> Cache:
        """The same cache's folder for what is no wheel to install: archives, build requirements."""
        return Cache(self.location, environ=self._environ, folder="files")

    def close(self) -> None:
        """Remove what this run made outside the cache."""
        if self._temporary:
            import shutil  # noqa: PLC0415 - rare

            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    @property
    def is_temporary(self) -> bool:
        """Whether what is published now goes with this run."""
        return self._temporary is not None

    @property
    def finding(self) -> str:
        """For the report, empty if all is well: a cache not used and why, bad bytes removed."""
        self._is_trusted()
        return "; ".join(self._findings)

    def wheel(self, sha256: str) -> Optional[str]:
        """Path of a cached file whose bytes are these; others under that name are removed."""
        folder = os.path.join(self._wheels, sha256)
        if not self._is_trusted():
            return None
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return None
        for name in names:
            path = os.path.join(folder, name)
            if _sha256_of(path) == sha256:
                return path
            self._findings.append(f"cache: {path} did not hold its bytes and was removed")
            _unlink(path)
        return None

    def place(self, name: str) -> Optional[str]:
        """Folder of the cache for something else than wheels, made or not.

        None where others may have put something there.
        """
        folder = os.path.join(self.location.directory, name)
        return folder if self._is_trusted() and not _others_may_write(folder) else None

    def held(self) -> FrozenSet[str]:
        """sha256 of every wheel that is here by its name; none of them was hashed."""
        try:
            return frozenset(os.listdir(self._wheels)) if self._is_trusted() else frozenset()
        except OSError:
            return frozenset()

    def part_for(self, sha256: str, *, size: int = 0) -> str:
        """A file of this run alone to download into; it holds what an earlier run left.

        Where the cache cannot be written, or has not `size` bytes free, it lies in a temporary
        directory. DownloadError where that cannot be made either.
        """
        name = f"{sha256}.part"
        own = f"{name}.{os.getpid()}-{os.urandom(4).hex()}"
        folder = self._writable(size)
        path = os.path.join(folder, own)
        for left in self._left_behind(folder, name):
            try:
                os.rename(left, path)  # of several runs, one gets it
                break
            except OSError:
                continue
        return path

    def keep_part(self, part: str) -> None:
        """After a failed download: leave the part where the next run continues it."""
        with suppress(OSError, ValueError):  # there may be nothing to keep
            os.rename(part, part[: part.rindex(".part.") + len(".part")])

    def publish(self, part: str, *, sha256: str, file: str) -> str:
        """Give a complete part its name, at once and whole; returns the wheel's path."""
        folder = os.path.join(os.path.dirname(part), sha256)
        path = os.path.join(folder, file)
        try:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            os.rename(part, path)
        except OSError as error:
            raise DownloadError(
                f"cannot write {path}: {error.strerror}; say --cache-dir"
            ) from error
        return path

    # -- where ----------------------------------------------------------------------------------

    def _is_trusted(self) -> bool:
        """Nobody else may be able to put files into our cache (they are hashed all the same)."""
        if self._trusted is None:
            self._trusted = True
            for directory in (self.location.directory, self._wheels):
                if _others_may_write(directory):
                    self._trusted = False
                    self._findings.append(
                        f"cache: {directory} can be written by others and is not used; "
                        "chmod go-w it or say --cache-dir"
                    )
                    break
        return self._trusted

    def _writable(self, size: int) -> str:
        if self._temporary:
            return self._temporary
        if self._is_trusted():
            try:
                os.makedirs(self._wheels, mode=0o755, exist_ok=True)
                if os.access(self._wheels, os.W_OK) and _has_room(self._wheels, size):
                    return self._wheels
                reason = "cannot be written, or its disk is full"
            except OSError as error:
                reason = error.strerror or str(error)
            self._findings.append(f"cache: {self.location.directory}: {reason}; not used")
        return self._make_temporary()

    def _make_temporary(self) -> str:
        parent = self._environ.get("TMPDIR") or "/tmp"  # noqa: S108 - the name is random, 0700
        path = os.path.join(parent, f"{NAME}-{os.getpid()}-{os.urandom(6).hex()}")
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            raise DownloadError(
                f"neither {self.location.directory} nor {parent} can be written "
                f"({error.strerror}); say --cache-dir"
            ) from error
        self._temporary = path
        return path

    def _left_behind(self, folder: str, name: str) -> List[str]:
        try:
            present = os.listdir(folder)
        except OSError:
            return []
        left = [os.path.join(folder, name)] if name in present else []
        now = time.time()
        for other in present:
            path = os.path.join(folder, other)
            if other.startswith(f"{name}."):
                try:
                    if now - os.stat(path).st_mtime > STALE_SECONDS:
                        left.append(path)
                except OSError:
                    continue
        return left


def _others_may_write(directory: str) -> bool:
    try:
        found = os.stat(directory)
    except OSError:
        return False
    world = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    return bool(found.st_uid not in (os.getuid(), 0) or world)


def _has_room(directory: str, size: int) -> bool:
    """Some network file systems count nothing; they are believed to have it."""
    disk = os.statvfs(directory)
    has_bytes = not disk.f_blocks or disk.f_bavail * disk.f_frsize >= size + SPARE_BYTES
    return has_bytes and (not disk.f_files or disk.f_favail >= SPARE_FILES)


def _sha256_of(path: str) -> str:
    import hashlib  # noqa: PLC0415 - a fresh pod has no cache to hash

    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            for piece in iter(lambda: file.read(CHUNK), b""):
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


def _unlink(path: str) -> None:
    with suppress(OSError):  # another run may have been quicker, or it is not ours to remove
        os.unlink(path)
