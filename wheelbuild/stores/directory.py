"""An index in a folder: any static server, `file://` or a Pages branch can serve it as it lies."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from apex_installer.errors import TrustError
from apex_installer.model.entry import SCHEMA, Entry
from wheelbuild.errors import PublishError
from wheelbuild.index.paths import ENTRIES, FILES, PAGE, file_url, rebase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


class DirectoryStore:
    """Implements `wheelbuild.stores.store.Store` on a local or mounted file system."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def directory(self) -> Path:
        """What a server serves."""
        return self._directory

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder itself; the kernel lets go when the publisher dies."""
        _make_directory(self.directory)
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                logger.warning("%s knows no locks: publish one at a time", self.directory)
            yield
        finally:
            os.close(descriptor)

    def entries(self) -> tuple[Entry, ...]:
        """Read `entries/*.json`; PublishError names one that cannot be read."""
        return tuple(_read_entry(path) for path in sorted(self.directory.glob(f"{ENTRIES}/*.json")))

    def put_file(self, file: Path, *, sha256: str, sidecar: bytes | None = None) -> str:
        """Copy to `files/<sha256>/`; the sidecar first, since it is found by the file's URL."""
        folder = self.directory / FILES / sha256
        _make_directory(folder)
        if sidecar is not None:
            _write_if_other(folder / f"{file.name}.metadata", sidecar)
        target = folder / file.name
        if not (target.is_file() and _sha256_of(target) == sha256):
            _write(target, lambda out: _copy(file, out, sha256=sha256))
        return file_url(file.name, sha256=sha256)

    def put_entry(self, entry: Entry) -> None:
        """Write `entries/<sha256>.json`."""
        folder = self.directory / ENTRIES
        _make_directory(folder)
        stored = replace(entry, url=rebase(entry.url, start="", to=ENTRIES))
        data = {"schema": SCHEMA, **stored.to_json()}
        text = json.dumps(data, indent=1, sort_keys=True) + "\n"
        _write_if_other(folder / f"{entry.sha256}.json", text.encode())

    def write_pages(self, pages: Mapping[str, bytes]) -> tuple[str, ...]:
        """A page whose bytes are there already is left alone, its date too."""
        changed = []
        for name, content in pages.items():
            path = self.directory / name
            _make_directory(path.parent)
            if _write_if_other(path, content):
                changed.append(name)
        for path in self._left_over(pages):
            path.unlink()
            changed.append(path.relative_to(self.directory).as_posix())
        return tuple(changed)

    def read_page(self, name: str) -> bytes | None:
        """Read `name`."""
        path = self.directory / name
        return path.read_bytes() if path.is_file() else None

    def _left_over(self, pages: Mapping[str, bytes]) -> Iterator[Path]:
        """Pages of index paths that are no more, and what a killed publisher had half written."""
        for parent, folders, names in os.walk(self.directory):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = self.directory / parent / name
                place = path.relative_to(self.directory).as_posix()
                if _is_part(name) or (PAGE.fullmatch(place) and place not in pages):
                    yield path


def _read_entry(path: Path) -> Entry:
    try:
        data = json.loads(path.read_bytes())
        _check_schema(data, where=str(path))
        entry = Entry.from_json(data, where=str(path))
    except (TrustError, ValueError) as error:
        raise PublishError(f"{path}: not an entry: {error}") from error
    if entry.sha256 != path.stem:
        raise PublishError(f"{path}: the entry of another file, {entry.sha256}")
    return replace(entry, url=rebase(entry.url, start=ENTRIES, to=""))


def _check_schema(data: object, *, where: str) -> None:
    schema = data.get("schema", SCHEMA) if isinstance(data, dict) else SCHEMA
    if schema != SCHEMA:
        raise PublishError(f"{where}: schema {schema!r}, but this farm reads {SCHEMA}: update it")


def _part_of(path: Path) -> Path:
    """One publisher at a time, so one name is enough, and a dead one's rest is written over."""
    return path.with_name(f".{path.name}.part")


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")


def _write_if_other(path: Path, content: bytes) -> bool:
    if path.is_file() and path.read_bytes() == content:
        return False
    _write(path, lambda out: out.write(content))
    return True


def _write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Whole or not at all, and on the disk when this returns."""
    part = _part_of(path)
    with part.open("wb") as out:
        fill(out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(part, path)  # noqa: PTH105 - the tests break exactly this call
    _sync(path.parent)


def _copy(file: Path, out: IO[bytes], *, sha256: str) -> None:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while piece := source.read(_CHUNK):
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != sha256:
        raise PublishError(f"{file}: changed while it was published: its sha256 is not {sha256}")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """A rename is on the disk once its folder is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
