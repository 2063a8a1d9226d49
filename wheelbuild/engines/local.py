"""The local engine: builds a job folder on this machine, by the cell's own interpreter."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.make.backend import ERROR
from wheelbuild.command import run_command
from wheelbuild.engines.engine import Tools
from wheelbuild.engines.objects import objects_folder
from wheelbuild.engines.tied import tie
from wheelbuild.engines.toolkit import prepare_toolkit, read_gcc_version, read_nvcc_version
from wheelbuild.errors import BuildError, CommandError

if TYPE_CHECKING:
    from apex_installer.make.request import BuildRequest
    from wheelbuild.engines.environment import BuildEnvironment
    from wheelbuild.plan import Job
    from wheelbuild.toolkits import Toolkits

GRACE = 60.0
"""Seconds beyond a build's own limit, which ends it in an orderly way."""


class LocalEngine:
    """This machine's compilers, the cell's own interpreter."""

    def equip(
        self, job: Job, environment: BuildEnvironment, *, toolkits: Toolkits, cache: Path
    ) -> Tools:
        """A toolkit that is here, else a fetched one; CellError names what is missing."""
        toolkit = prepare_toolkit(job, environment.torch, toolkits=toolkits, cache=cache)
        objects = objects_folder(
            cache,
            torch=job.torch,
            torch_git=environment.torch.git,
            cuda_home=toolkit.home,
            environ=os.environ,
        )
        return Tools(
            cuda_home=toolkit.home,
            nvcc=read_nvcc_version(toolkit.home),
            gcc=read_gcc_version(),
            python=environment.interpreter.version,
            how=toolkit.how,
            objects=objects,
        )

    def build(self, folder: Path, *, request: BuildRequest, out: Path) -> Path:
        """Run the front end."""
        return build_job_folder(folder, request=request, out=out)

    def policy(self, job: Job) -> str | None:
        """What this machine's libraries are fit for is found, not promised."""
        del job
        return None


def build_job_folder(folder: Path, *, request: BuildRequest, out: Path) -> Path:
    """Run the front end; return the wheel. Progress goes to stderr while it runs."""
    fresh = fresh_folder(out)
    (folder / ERROR).unlink(missing_ok=True)
    limit = None if request.time_limit is None else request.time_limit + GRACE
    ran = run_command(
        tie(_front_end(folder, fresh, request.interpreter)),
        environ=_environ(),
        check=False,
        show=True,
        time_limit=limit,
    )
    if ran.code or len(list(fresh.glob("*.whl"))) != 1:
        raise BuildError(f"{request.cell}: {why_failed(folder) or ran.last_line}")
    return take_wheel(fresh, out=out)


def fresh_folder(out: Path) -> Path:
    """An empty folder in `out` for one build; what killed ones left there is removed."""
    for left in out.glob("new*"):
        shutil.rmtree(left, ignore_errors=True)
    fresh = out / f"new-{os.getpid()}"
    fresh.mkdir(parents=True)
    return fresh


def take_wheel(fresh: Path, *, out: Path) -> Path:
    """Put the one wheel of the fresh folder in the place of what was built before."""
    (found,) = fresh.glob("*.whl")
    for stale in out.glob("*.whl"):
        stale.unlink()
    wheel = found.replace(out / found.name)
    fresh.rmdir()
    return wheel


def why_failed(folder: Path) -> str:
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
