"""The three ways to a wheel of a local index, as people use them: apex-install, pip and uv."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelbuild.command import Ran, run_command
from wheelbuild.engines.clone import clone_environment
from wheelbuild.errors import StepError
from wheelbuild.thin_json import thin_texts
from wheelbuild.zipapp import pack_zipapp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apex_installer.model.entry import Entry
    from wheelbuild.data import FarmData
    from wheelbuild.engines.environment import BuildEnvironment
    from wheelbuild.stores.directory import DirectoryStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """What a client did."""

    command: str
    """As it can be pasted."""
    said: tuple[str, ...]
    version: str
    """Of the distribution that is there now."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Clients:
    """One index with one wheel; each client gets an environment of its own."""

    environment: BuildEnvironment
    data: FarmData
    store: DirectoryStore
    url: str
    """Where the index is served; ends with a slash."""
    folder: Path
    cache: Path

    def apex_install(self) -> Installed:
        """By the packed installer, which reads torch and GPU and chooses by itself."""
        zipapp = pack_zipapp(out=self.folder / "apex-install.pyz", texts=thin_texts(self.data))
        python = self._fresh("by-apex-install")
        words = [str(python), str(zipapp), "--index-url", self.url]
        words += ["--python", str(python), "--cache-dir", str(self.folder / "wheels"), "--json"]
        ran = self._run(words)
        return self._installed(ran, python, report_lines(json.loads(ran.output)))

    def pip(self) -> Installed:
        """By the line that the index's first page shows."""
        python = self._fresh("by-pip")
        words = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-cache-dir"]
        words += [self._requirement, "--extra-index-url", self._simple]
        ran = self._run(words)
        return self._installed(ran, python, ran.output.splitlines()[-1:])

    def uv(self) -> Installed:
        """The same requirement by uv."""
        python = self._fresh("by-uv")
        words = [find_uv(self.cache), "pip", "install", "--python", str(python), "--no-cache"]
        words += [self._requirement, "--extra-index-url", self._simple]
        ran = self._run(words)
        return self._installed(ran, python, ran.errors.strip().splitlines()[-1:])

    def _fresh(self, name: str) -> Path:
        package = self.data.recipe.package
        return clone_environment(
            self.environment, into=self.folder / name, without=(package, *_modules(self._entry))
        )

    @property
    def _entry(self) -> Entry:
        (entry,) = self.store.entries()
        return entry

    @property
    def _requirement(self) -> str:
        return f"{self._entry.distribution}=={self._entry.version}"

    @property
    def _simple(self) -> str:
        """The index path of the wheel's cell and suffix."""
        cell, suffix = self._entry.the_cell, self._entry.suffix
        if cell is None:
            raise StepError(f"{self._entry.file}: is for no cell")
        parts = [cell.index_path, suffix, "simple"]
        return self.url + "/".join(part for part in parts if part) + "/"

    def _run(self, words: Sequence[str]) -> Ran:
        hidden = ("PYTHON", "VIRTUAL_ENV", "UV_", "APEX_")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        return run_command(words, environ=environ, cwd=self.folder)

    def _installed(self, ran: Ran, python: Path, said: Sequence[str]) -> Installed:
        probe = f"import importlib.metadata as m; print(m.version({self._entry.distribution!r}))"
        version = run_command([python, "-I", "-c", probe], cwd=self.folder).output.strip()
        if version != self._entry.version:
            raise StepError(f"{shlex.join(ran.arguments)}: {version} is there afterwards")
        return Installed(
            command=shlex.join(ran.arguments),
            said=tuple(said),
            version=version,
            seconds=ran.seconds,
        )


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """The report for people, its last line last: a line per key that says something. Pure."""
    said = {
        **report,
        "outcome": f"{report['outcome']}, exit code {report['exit_code']}",
        "chosen": report["chosen"] and report["chosen"]["file"],
        "seconds": {name: f"{seconds:.3f}" for name, seconds in report["seconds"].items()},
    }
    keys = ("environment", "chosen", "refusals", "attempts", "findings", "seconds", "bytes")
    lines = [f"{key}: {_words(said[key])}" for key in ("outcome", *keys) if said[key]]
    return [*lines, f"apex: {report['line']}"]


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, list | tuple):
        return "; ".join(map(_words, value)) or "none"
    return str(value)


def _modules(entry: Entry) -> tuple[str, ...]:
    return tuple(module.name for module in entry.modules)


def find_uv(cache: Path) -> str:
    """Beside our own Python or on PATH; else from PyPI into the cache."""
    beside = shutil.which("uv", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("uv")
    if found:
        return found
    folder = cache / "tools" / "uv"
    if not (folder / "bin" / "uv").is_file():
        run_command([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "uv"])
    return str(folder / "bin" / "uv")
