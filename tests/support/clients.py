"""Real pip and real uv, shut off from this machine's configuration and caches."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Ran:
    command: str
    code: int
    said: str
    """stdout and stderr."""


@dataclass(frozen=True)
class Target:
    """A virtual environment without pip."""

    python: Path

    @property
    def site_packages(self) -> Path:
        (found,) = self.python.parents[1].glob("lib/python3*/site-packages")
        return found

    def versions(self) -> dict[str, str]:
        """Distribution -> version of what is there."""
        metadata = self.site_packages.glob("*.dist-info/METADATA")
        headers = [Parser().parsestr(path.read_text(encoding="utf-8")) for path in metadata]
        return {header["Name"]: header["Version"] for header in headers}

    def state_of(self, *names: str) -> dict[str, tuple[str, int]]:
        """Digest and date of every file of these packages, to see that nothing touched them."""
        return {
            str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for name in names
            for path in sorted(self.site_packages.glob(f"{name}*/**/*"))
            if path.is_file() and "__pycache__" not in path.parts
        }


def make_target(directory: Path, wheels: Iterable[Path] = ()) -> Target:
    """An environment that holds these wheels, as if a client had installed them."""
    venv.create(directory, with_pip=False, symlinks=True)
    target = Target(directory / "bin/python")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target.site_packages)
            (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        (target.site_packages / info / "INSTALLER").write_text("tests\n")
    return target


@dataclass(frozen=True)
class Clients:
    """Run with an environment of their own; `pypi` is the default index of both."""

    home: Path
    pypi: str
    uv_program: str

    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "NO_COLOR": "1",
            "COLUMNS": "200",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_INDEX_URL": self.pypi,
            "PIP_NO_INPUT": "1",
            # What pip has by plain http it caches from trusted hosts alone.
            "PIP_TRUSTED_HOST": "127.0.0.1",
            "UV_CACHE_DIR": str(self.home / "uv-cache"),
            "UV_DEFAULT_INDEX": self.pypi,
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_LINK_MODE": "copy",
        }

    def pip(self, *words: object, target: Target, cwd: Path | None = None) -> Ran:
        """`pip <words>` into `target`."""
        start = [sys.executable, "-m", "pip", "--python", str(target.python)]
        return self._run([*start, *map(str, words)], cwd=cwd)

    def uv(self, *words: object, cwd: Path | None = None, **environ: str) -> Ran:
        """`uv <words>`."""
        return self._run([self.uv_program, *map(str, words)], cwd=cwd, environ=environ)

    def _run(
        self, words: list[str], *, cwd: Path | None, environ: Mapping[str, str] | None = None
    ) -> Ran:
        done = subprocess.run(
            words,
            cwd=cwd or self.home,
            env={**self.environ(), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return Ran(shlex.join(words), done.returncode, done.stdout)
