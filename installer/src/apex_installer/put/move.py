"""Move things whole. A rename where it can be one; where it cannot, the package is hidden first.

In a container, folders that come from the image cannot be renamed: overlayfs answers EXDEV. Then
the package's `__init__.py` is replaced, in one rename, by a guard that raises ImportError, so that
no half of it can be imported while its files are taken away or filled in one by one.
Source: kernel documentation, filesystems/overlayfs, "renaming directories".
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Iterable

from apex_installer.put.workspace import delete

INIT = "__init__.py"
PART = ".part"
GUARD = b'raise ImportError("this package is being replaced by apex-install: run that again")\n'
CHUNK = 1 << 20


def move(source: str, destination: str) -> None:
    """A file, a link or a folder, whole; the destination's parents are made."""
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    try:
        os.rename(source, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        delete(destination + PART)
        copy(source, destination + PART)
        os.rename(destination + PART, destination)
        delete(source)


def take_away(package: str, destination: str) -> None:
    """Move a package folder so that it is importable whole or not at all; can be repeated.

    Where it cannot be renamed, the folder stays behind with nothing but the guard in it.
    """
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    if not is_guarded(package):
        try:
            os.rename(package, destination)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            delete(destination + PART)
            copy(package, destination + PART)
            guard = destination + ".guard"
            _write(guard, (GUARD,))
            os.rename(guard, os.path.join(package, INIT))
        else:
            return
    if os.path.lexists(destination + PART):
        os.rename(destination + PART, destination)
    _empty(package)


def put_in(package: str, destination: str) -> None:
    """The reverse: into place whole, or behind the guard and that last; can be repeated."""
    if not is_guarded(destination):
        if os.path.lexists(package):
            os.rename(package, destination)
        return
    _empty(destination)
    for name in os.listdir(package):
        if name != INIT:
            copy(os.path.join(package, name), os.path.join(destination, name))
    init = os.path.join(package, INIT)
    if os.path.lexists(init):
        os.rename(init, os.path.join(destination, INIT))
    else:
        os.unlink(os.path.join(destination, INIT))


def drop_guard(package: str, *, spare: str) -> None:
    """When nothing comes after the package that went: its folder goes too; can be repeated.

    An empty folder could be imported, as a namespace. So a second guard, a module of the same name,
    stands in until it is gone. `spare` is a path of ours on the same file system.
    """
    module = f"{package}.py"
    if is_guarded(package):
        _empty(package)
        if not os.path.lexists(module):
            _write(spare, (GUARD,))
            os.rename(spare, module)
        os.unlink(os.path.join(package, INIT))
    with suppress(OSError):  # it is not there, or not empty and then not ours
        os.rmdir(package)
    if _holds_guard(module):
        os.unlink(module)


def is_free(package: str) -> bool:
    """Whether nothing of anybody's is there: absent, guarded, or an empty folder."""
    if not os.path.lexists(package) or is_guarded(package):
        return True
    return os.path.isdir(package) and not os.path.islink(package) and not os.listdir(package)


def is_guarded(package: str) -> bool:
    """Whether the guard stands in for it."""
    return _holds_guard(os.path.join(package, INIT))


def _holds_guard(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(GUARD) + 1) == GUARD
    except OSError:
        return False


def copy(source: str, destination: str, *, link: bool = False) -> None:
    """Contents, modes and mtimes; links as links. `link`: share the files where possible."""
    found = os.lstat(source)
    if os.path.islink(source):
        os.symlink(os.readlink(source), destination)
        return
    if os.path.isdir(source):
        os.mkdir(destination, 0o700)
        for name in os.listdir(source):
            copy(os.path.join(source, name), os.path.join(destination, name), link=link)
    elif link and _linked(source, destination):
        return
    else:
        with open(source, "rb", buffering=0) as file:
            _write(destination, iter(lambda: file.read(CHUNK), b""))
    os.chmod(destination, found.st_mode & 0o7777)
    with suppress(PermissionError):
        os.chown(destination, found.st_uid, found.st_gid)
    os.utime(destination, ns=(found.st_atime_ns, found.st_mtime_ns))


def _linked(source: str, destination: str) -> bool:
    try:
        os.link(source, destination)
    except OSError:  # file systems refuse with many codes; copying says what is really wrong
        return False
    return True


def _write(path: str, pieces: Iterable[bytes]) -> None:
    with open(path, "wb", buffering=0) as file:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]


def _empty(package: str) -> None:
    """Everything but the guard."""
    for name in os.listdir(package):
        if name != INIT:
            delete(os.path.join(package, name))
