"""The local engine: builds a job folder on this machine, by the cell's own interpreter."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.make.backend import ERROR
from wheelbuild.command import run_command
from wheelbuild.errors import BuildError, CommandError

if TYPE_CHECKING:
    from apex_installer.make.request import BuildRequest

_GRACE = 60.0
"""Seconds beyond a build's own limit, which ends it in an orderly way."""


def build_job_folder(folder: Path, *, request: BuildRequest, out: Path) -> Path:
    """Run the front end; return the wheel. Progress goes to stderr while it runs."""
    fresh = out / "new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    (folder / ERROR).unlink(missing_ok=True)
    limit = None if request.time_limit is None else request.time_limit + _GRACE
    ran = run_command(
        _front_end(folder, fresh, request.interpreter),
        environ=_environ(),
        check=False,
        show=True,
        time_limit=limit,
    )
    found = sorted(fresh.glob("*.whl"))
    if ran.code or len(found) != 1:
        raise BuildError(f"{request.cell}: {_why(folder) or ran.last_line}")
    for stale in out.glob("*.whl"):
        stale.unlink()
    wheel = found[0].replace(out / found[0].name)
    fresh.rmdir()
    return wheel


def _why(folder: Path) -> str:
    """The backend's one line; it was on stderr too, where it may have scrolled away."""
    path = folder / ERROR
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _front_end(folder: Path, out: Path, interpreter: str) -> list[str]:
    """The interpreter's own `build`, else ours with its hooks run in the interpreter."""
    try:
        run_command([interpreter, "-I", "-c", "import build.__main__"])
    except CommandError:
        ours = [sys.executable, "-m", "wheelbuild.engines.frontend"]
        return [*ours, str(folder), str(out), interpreter]
    words = ["--no-isolation", "--skip-dependency-check", "--wheel", "--outdir", str(out)]
    return [interpreter, "-m", "build", *words, str(folder)]


def _environ() -> dict[str, str]:
    """Ours, without what would show the interpreter packages that are not its own."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
