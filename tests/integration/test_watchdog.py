"""A run that hangs is ended, one that ends is left alone."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from apex_installer import watchdog
from apex_installer.watchdog import Watchdog

pytestmark = pytest.mark.integration

HANGS = """
import signal, sys, time
from apex_installer import watchdog
watchdog.GRACE = 0.2
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
with watchdog.Watchdog(0.1):
    time.sleep(20 if "hangs" in sys.argv else 0)
time.sleep(0.5)
print("went on")
"""


@pytest.mark.parametrize(("word", "code", "out"), [("hangs", 3, ""), ("ends", 0, "went on\n")])
def test_what_hangs_is_ended_and_says_so(word: str, code: int, out: str) -> None:
    command = [sys.executable, "-c", HANGS, word]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=15)
    assert (done.returncode, done.stdout) == (code, out)
    said = "apex: none (deadline: a driver or a disk hangs: given up after 0.1 s and 0.2 s more)\n"
    assert done.stderr == (said if code else "")


def test_a_stderr_that_nobody_reads_does_not_keep_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    done = subprocess.run(
        [sys.executable, "-c", HANGS, "hangs"], stderr=writer, cwd=tmp_path, check=False, timeout=15
    )
    os.close(reader)
    os.close(writer)
    assert done.returncode == 3


def test_a_failure_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), Watchdog(1000):
        _ = 1 / 0


def test_it_fires_within_what_is_promised() -> None:
    assert watchdog.GRACE < 3
