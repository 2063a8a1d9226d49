"""Our folder beside the package: on the target's own file system, so that a rename is a rename.

    <target>/.apex-install/lock           held while anything below is changed
                          /journal.json   a swap is under way (see `journal`)
                          /done.json      it is done, what is left over may go
                          /stage-…        what is to come in
                          /old-…          what was taken out
                          /aside-N        a foreign package, whole, for `remove` to bring back
                          /kept-N         a user's own files out of a package that is gone

It is removed when nothing is left in it.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Optional, Type

from apex_installer.errors import TargetError

if TYPE_CHECKING:
    from types import TracebackType

NAME = ".apex-install"
LOCK = "lock"
MOVING, DONE = "journal.json", "done.json"
STAGE, OLD, ASIDE, KEPT = "stage-", "old-", "aside-", "kept-"
LOCK_SECONDS = 10.0
"""How long another installer at work in the same target is waited for."""
UNSURE_SECONDS = 600
"""Where no lock can be had, leftovers younger than this may belong to somebody alive."""
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})
UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR})
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def workspace_path(target: str) -> str:
    """Where our folder is, or would be."""
    return os.path.join(target, NAME)


class Workspace:
    """The folder, locked. A context manager; the end sweeps and lets go."""

    def __init__(
        self,
        target: str,
        *,
        seconds: float = LOCK_SECONDS,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is touched before `with`; `pause` is a seam for tests."""
        self.target = target
        self.path = workspace_path(target)
        self._seconds = seconds
        self._pause = pause
        self._lock = -1
        self._sure = True

    def __enter__(self) -> Workspace:
        """Make it and lock it; TargetError where that cannot be done."""
        try:
            self._acquire()
        except OSError as error:
            raise target_error(self.target, error) from error
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Remove it if nothing is left in it, and unlock."""
        with suppress(OSError):
            if os.listdir(self.path) == [LOCK]:
                os.unlink(self.in_it(LOCK))
                os.rmdir(self.path)
        os.close(self._lock)

    def in_it(self, name: str) -> str:
        """Path of something in the folder."""
        return os.path.join(self.path, name)

    def name_for(self, prefix: str) -> str:
        """A name that no other run has; nothing is made."""
        return f"{prefix}{os.getpid()}-{os.urandom(4).hex()}"

    def make(self, prefix: str) -> str:
        """A new, empty folder of our own; returns its name."""
        name = self.name_for(prefix)
        os.mkdir(self.in_it(name), 0o700)
        return name

    def next_name(self, prefix: str) -> str:
        """The first of `aside-1`, `aside-2`, … that is free."""
        number = 1
        while os.path.lexists(self.in_it(f"{prefix}{number}")):
            number += 1
        return f"{prefix}{number}"

    def sweep(self) -> None:
        """Remove what killed runs left; call it only when no journal is open."""
        now = time.time()
        for name in os.listdir(self.path):
            path = self.in_it(name)
            if name.startswith((STAGE, OLD)) or name.endswith(".part"):
                with suppress(OSError):
                    if self._sure or now - os.stat(path).st_mtime > UNSURE_SECONDS:
                        delete(path)

    def _acquire(self) -> None:
        end = time.monotonic() + self._seconds
        while True:
            with suppress(FileExistsError):
                os.mkdir(self.path, 0o755)
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._lock = os.open(self.in_it(LOCK), flags, 0o644)
            except FileNotFoundError:
                continue  # its last user removed the folder in between
            if self._try_lock() and self._is_current():
                return
            os.close(self._lock)
            if time.monotonic() >= end:
                raise TargetError(
                    f"another apex-install has been at work in {self.target} for "
                    f"{self._seconds:g} s: try again when it is done"
                )
            self._pause(0.02)

    def _try_lock(self) -> bool:
        import fcntl  # noqa: PLC0415 - only what changes something needs it

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            self._sure = False  # the lock saves work; correctness is the journal's
        return True

    def _is_current(self) -> bool:
        """Whether the locked file is still the one that others will open."""
        try:
            found = os.stat(self.in_it(LOCK))
        except FileNotFoundError:
            return False
        return found.st_ino == os.fstat(self._lock).st_ino


def delete(path: str) -> None:
    """A file, a link or a whole folder; what is not there is fine."""
    try:
        if not os.path.isdir(path) or os.path.islink(path):
            os.unlink(path)
            return
        for name in os.listdir(path):
            delete(os.path.join(path, name))
        os.rmdir(path)
    except FileNotFoundError:
        pass


def target_error(target: str, error: OSError) -> TargetError:
    """An OSError while writing to the target, with what to do about it."""
    if error.errno in UNWRITABLE:
        what = "run it as the owner, or say --target DIR and put DIR on PYTHONPATH"
    elif error.errno in DISK_FULL:
        what = "free some space there, or say --target DIR on another disk"
    elif error.errno in NO_FOLDER:
        what = "make that folder first, or say --target DIR"
    else:
        what = "say --target DIR elsewhere"
    reason = error.strerror or str(error)
    return TargetError(f"cannot write {error.filename or target}: {reason}; {what}")
