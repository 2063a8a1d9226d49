"""The guard of the unit tests bites, and lets loopback pass."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(lambda: subprocess.run(["true"], check=False), id="subprocess"),
        pytest.param(lambda: os.system("true"), id="os.system"),  # noqa: S605
        pytest.param(os.fork, id="os.fork"),
    ],
)
def test_no_process(start: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match="starts a process"):
        start()


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.invalid", 80)])
def test_no_connection_beyond_this_machine(address: tuple[str, int]) -> None:
    with pytest.raises(AssertionError, match="opens a connection"):
        socket.create_connection(address, timeout=0.01)


def test_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_no_torch() -> None:
    with pytest.raises(AssertionError, match="torch is imported"):
        import torch  # type: ignore[import-not-found] # noqa: F401, PLC0415
