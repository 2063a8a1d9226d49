"""Mounts that nobody else sees: a shell script in a mount namespace of its own.

    script = Mounts(requires_tool("unshare"), tmp_path)
    output = script.run("mount -t tmpfs -o size=24k none mnt; …; echo $?")

The folder `mnt` is there to mount on; all mounts end with the script.
"""

from __future__ import annotations

import os
import subprocess
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Mounts:
    unshare: str
    folder: Path
    """Where the scripts run."""

    def run(self, script: str, *, tried: str = "mount -t tmpfs none mnt") -> str:
        """What the script said; a skip where even `tried` is not allowed here."""
        (self.folder / "mnt").mkdir(exist_ok=True)
        trial = self._start(tried, stderr=subprocess.PIPE)
        if trial.returncode:
            pytest.skip(f"no unshare that may mount: {trial.stderr.strip()[:80]}")
        done = self._start(textwrap.dedent(script), stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _start(self, script: str, *, stderr: int) -> subprocess.CompletedProcess[str]:
        options = ["-m"] if os.geteuid() == 0 else ["-r", "-m"]
        return subprocess.run(
            [self.unshare, *options, "sh", "-euc", script],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=False,
        )
