"""Unpack what was verified: NVIDIA's archives, source archives, wheels of pure Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from contextlib import contextmanager
from typing import IO, Iterator, Optional

from apex_installer.errors import ToolkitError, TrustError

_NO_XZ = "this Python has no lzma, and there is no xz: apt-get install xz-utils"


def xz_fault() -> Optional[str]:
    """Why an `.xz` archive could not be read here, with the remedy; None where it can."""
    return None if _has_lzma() or shutil.which("xz") else _NO_XZ


def unpack_archive(path: str, *, into: str) -> str:
    """Unpack a `.tar.xz` or `.tar.gz` with one folder at its top; returns `into`, that folder.

    TrustError for a member that leads outside or is no file, folder or link.
    """
    os.makedirs(into)
    name = os.path.basename(path)
    try:
        with _opened(path) as archive:
            for member in archive:
                inner = member.name.strip("/").partition("/")[2]
                if inner:
                    _extract(archive, member, inner, into=into, name=name)
    except (tarfile.TarError, EOFError) as error:
        raise TrustError(f"{name}: cannot be unpacked: {error}") from error
    return into


def unpack_wheel(path: str, *, into: str) -> str:
    """Unpack a wheel; programs stay programs. Returns `into`."""
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            if item.is_dir():
                continue
            made = archive.extract(item, into)  # zipfile keeps it inside
            os.chmod(made, 0o755 if (item.external_attr >> 16) & 0o100 else 0o644)
    return into


@contextmanager
def _opened(path: str) -> Iterator[tarfile.TarFile]:
    """As a stream: a toolkit's archive is read once, from front to end."""
    if not path.endswith(".xz") or _has_lzma():
        with tarfile.open(path, "r|*") as archive:
            yield archive
        return
    program = shutil.which("xz")
    if program is None:
        raise ToolkitError(_NO_XZ)
    with subprocess.Popen([program, "-dc", path], stdout=subprocess.PIPE) as unpacker:
        assert unpacker.stdout is not None  # noqa: S101 - asked for above
        try:
            with tarfile.open(fileobj=_as_file(unpacker.stdout), mode="r|") as archive:
                yield archive
        finally:
            unpacker.kill()


def _as_file(stream: IO[bytes]) -> IO[bytes]:
    return stream


def _has_lzma() -> bool:
    try:
        import lzma  # noqa: F401, PLC0415 - some Pythons are built without it
    except ImportError:
        return False
    return True


def _extract(
    archive: tarfile.TarFile, member: tarfile.TarInfo, inner: str, *, into: str, name: str
) -> None:
    target = os.path.join(into, inner)
    if not _is_inside(inner) or not (member.isfile() or member.isdir() or member.issym()):
        raise TrustError(f"{name}: {member.name} leads outside or is no file")
    if member.isdir():
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(os.path.dirname(target)):
        raise TrustError(f"{name}: {member.name} lies behind a link")
    if member.issym():
        if not _is_inside(os.path.join(os.path.dirname(inner), member.linkname)):
            raise TrustError(f"{name}: {member.name} links outside")
        os.symlink(member.linkname, target)
        return
    source = archive.extractfile(member)
    with open(target, "wb") as file:
        if source is not None:
            shutil.copyfileobj(source, file, 1 << 20)
    os.chmod(target, 0o755 if member.mode & 0o100 else 0o644)


def _is_inside(path: str) -> bool:
    normal = os.path.normpath(path)
    return not os.path.isabs(path) and normal != ".." and not normal.startswith("../")
