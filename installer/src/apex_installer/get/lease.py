"""A lease: one pod does the work, the others wait for its result. It saves work, no more.

    <cache>/leases/<key>.1.lease     of the first holder, who touches it every few seconds
    <cache>/leases/<key>.2.lease     of who found that one dead, and so on

What is correct is so by the result's own publish, at once and whole; with two holders, or on a file
system that keeps none of this, the same work is done twice. No lease is ever moved or written over:
who finds the highest number dead makes the next one, and `O_EXCL` gives that to one pod alone, so
that a slow waiter cannot take the lease of whoever was quicker.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from contextlib import suppress
from typing import Any, Callable, NamedTuple, Optional, Tuple

from apex_installer.closing import Closing
from apex_installer.errors import DeadlineError
from apex_installer.get.whole import remove
from apex_installer.values import asdict, dataclass


@dataclass(frozen=True)
class Pace:
    """Seconds between the holder's signs of life, to its end without one, between looks at it."""

    heartbeat: float
    expires: float
    poll: float


PACE = Pace(heartbeat=5.0, expires=30.0, poll=1.0)
"""Five signs may be missed, on a volume that stalls. Tests pack an installer that is quicker."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. Process ids count within one boot and one pid namespace alone."""

    host: str
    boot: str
    namespace: str
    """Of process ids: every container has its own."""
    pid: int
    started: str
    """When the process began, in ticks since boot: a process id is given again."""
    token: str
    """Random, to tell its lease from any other."""

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.host}, process {self.pid}" if self.pid else self.host


UNKNOWN = Holder("host not known", "", "", 0, "", "")
"""Of a lease that is empty or cannot be read: its holder writes it now, or was killed there."""


class Sight(NamedTuple):
    """A lease as it was seen."""

    number: int
    mark: Tuple[int, int]
    """mtime and inode: changes with every sign of life."""
    holder: Holder


def read_self() -> Holder:
    """Us, as the holder of a new lease."""
    pid = os.getpid()
    return Holder(
        host=os.uname().nodename,
        boot=_read("/proc/sys/kernel/random/boot_id").strip(),
        namespace=_read_link("/proc/self/ns/pid"),
        pid=pid,
        started=read_start(pid),
        token=os.urandom(16).hex(),
    )


def read_start(pid: int) -> str:
    """When a process began; empty for one that is gone, or that only waits to be buried."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    state, start = (fields[0], fields[19]) if len(fields) > 19 else ("X", "")  # noqa: PLR2004 - proc(5)
    return "" if state in "ZX" else start


def is_known_dead(holder: Holder, here: Holder, *, start_of: Callable[[int], str]) -> bool:
    """Whether its process is gone, where that can be known: same machine, boot and namespace."""
    ours = (here.host, here.boot, here.namespace)
    if not all(ours) or (holder.host, holder.boot, holder.namespace) != ours:
        return False
    return start_of(holder.pid) != holder.started


class Watch:
    """Whether a lease shows life, by our own monotonic clock: those of other pods may differ."""

    def __init__(self, expires: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`expires`: seconds without a change."""
        self._expires, self._clock = expires, clock
        self._seen: Optional[Tuple[int, Tuple[int, int]]] = None
        self._since = 0.0

    def has_expired(self, sight: Sight) -> bool:
        """Whether it is what it was so long ago."""
        now, seen = self._clock(), (sight.number, sight.mark)
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since > self._expires


def take_lease(
    folder: str,
    key: str,
    *,
    is_done: Callable[[], bool],
    ends: float,
    on_wait: Callable[[Holder], None],
    pace: Pace = PACE,
) -> Optional[Lease]:
    """The lease, or None as soon as `is_done`: another pod's result is there.

    `on_wait` is told once of whom we wait for. DeadlineError at `ends`, a time of
    `time.monotonic`, while another pod holds it. OSError where `folder` can hold no lease.
    """
    here, watch, told = read_self(), Watch(pace.expires), False
    os.makedirs(folder, mode=0o755, exist_ok=True)
    while not is_done():
        sight = _highest(folder, key)
        is_free = sight is None or _is_free(sight, here, watch)
        if is_free:
            lease = _make(folder, key, (sight.number if sight else 0) + 1, here, pace)
            if lease is not None:
                return _unless_done(lease, is_done)
        if time.monotonic() >= ends:
            raise DeadlineError(
                f"another pod ({(sight.holder if sight else UNKNOWN).shown}) compiles the same and "
                "was not done in time; its result is taken at the next start"
            )
        if sight is not None and not is_free and not told:
            on_wait(sight.holder)
            told = True
        # Not all at the same moment, and not beyond the end.
        pause = pace.poll * random.uniform(0.5, 1.5)  # noqa: S311 - a jitter, no secret
        time.sleep(max(0.0, min(pause, ends - time.monotonic())))
    return None


def _is_free(sight: Sight, here: Holder, watch: Watch) -> bool:
    expired = watch.has_expired(sight)
    return expired or is_known_dead(sight.holder, here, start_of=read_start)


def _unless_done(lease: Lease, is_done: Callable[[], bool]) -> Optional[Lease]:
    """The last holder may have published and left between two looks."""
    try:
        done = is_done()
    except BaseException:
        lease.close()
        raise
    if done:
        lease.close()
        return None
    return lease


def _make(folder: str, key: str, number: int, here: Holder, pace: Pace) -> Optional[Lease]:
    """None where another pod made that number first."""
    path = os.path.join(folder, f"{key}.{number}.lease")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(here)))
    except OSError:
        remove(path)
        raise
    if read_holder(path).token != here.token:
        return None  # a file system that gave it to two
    return Lease(path, here.token, pace)


class Lease(Closing):
    """Held, with a thread that shows it, until it is closed."""

    def __init__(self, path: str, token: str, pace: Pace) -> None:
        """Of a file that was just made with this token."""
        self._path, self._token, self._pace = path, token, pace
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give it back: the next one may begin at once. What killed holders left goes too."""
        self._end.set()
        self._thread.join(timeout=self._pace.heartbeat)
        if read_holder(self._path).token != self._token:
            return
        key, number, _ = os.path.basename(self._path).rsplit(".", 2)
        for lower in range(1, int(number)):
            remove(os.path.join(os.path.dirname(self._path), f"{key}.{lower}.lease"))
        remove(self._path)

    def _beat(self) -> None:
        while not self._end.wait(self._pace.heartbeat):
            if read_holder(self._path).token == self._token:
                with suppress(OSError):  # a volume that stalls or has gone: the work goes on
                    os.utime(self._path)


def _highest(folder: str, key: str) -> Optional[Sight]:
    """The one that counts. Listing a folder makes an NFS client ask its server."""
    pattern = re.compile(rf"{re.escape(key)}\.(\d+)\.lease")
    numbers = [int(found.group(1)) for found in map(pattern.fullmatch, os.listdir(folder)) if found]
    for number in sorted(numbers, reverse=True):
        path = os.path.join(folder, f"{key}.{number}.lease")
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue  # given back this very moment
        return Sight(number, (status.st_mtime_ns, status.st_ino), read_holder(path))
    return None


def read_holder(path: str) -> Holder:
    """Whose it is; UNKNOWN where that cannot be read."""
    try:
        data: Any = json.loads(_read(path))
        values = {name: data[name] for name in Holder.__annotations__}
        return Holder(**{**values, "pid": int(values["pid"])})
    except (ValueError, KeyError, TypeError):
        return UNKNOWN


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
