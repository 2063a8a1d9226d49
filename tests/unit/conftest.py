"""Unit tests start no process, leave this machine by no socket, and never import torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROCESSES = frozenset(
    {"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork", "os.forkpty"}
)
_LOOPBACK = ("127.", "::1", "localhost")


class Guard:
    """An audit hook sees every way out, also those that no test thought of patching."""

    on = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event in _PROCESSES:
            raise AssertionError(f"a unit test starts a process ({event} {arguments!r})")
        if event in {"socket.connect", "socket.getaddrinfo"} and not _is_local(arguments):
            raise AssertionError(f"a unit test opens a connection ({event} {arguments!r})")
        if event == "import" and arguments[0] == "torch":
            raise AssertionError("torch is imported in our own process")


def _is_local(arguments: tuple[object, ...]) -> bool:
    address = arguments[-1] if isinstance(arguments[-1], (tuple, str, bytes)) else arguments[0]
    if isinstance(address, tuple):
        return str(address[0]).startswith(_LOOPBACK)
    name = arguments[0] if isinstance(arguments[0], (str, bytes)) else address
    return not isinstance(name, str) or name.startswith((*_LOOPBACK, "/", "\0"))


_guard = Guard()
sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    """On while a unit test runs; an audit hook cannot be taken away again."""
    _guard.on = True
    yield
    _guard.on = False
