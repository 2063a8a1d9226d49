"""The container engine: cibuildwheel in a manylinux image, by podman or docker.

The image brings the interpreter (`/opt/python/cp311-cp311`) and the host compiler, and CUDA where
it has the cell's. The cell's torch, and CUDA where the image has none, are this machine's own and
mounted where they lie; so are the shared objects and the job's work folder, where log and account
are written. The wheel comes back as it was built: `repair` holds it to the matrix's policy.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.make.backend import ERROR
from wheelbuild.command import run_command, run_streamed
from wheelbuild.engines.cibuildwheel import Mount, write_project
from wheelbuild.engines.engine import Tools
from wheelbuild.engines.environment import read_environment
from wheelbuild.engines.image import PROBE, ImageFacts, parse_facts
from wheelbuild.engines.local import GRACE, fresh_folder, take_wheel
from wheelbuild.engines.objects import find_cuda_programs, identify
from wheelbuild.engines.tied import tie
from wheelbuild.engines.toolkit import prepare_toolkit, read_nvcc_version, toolkit_mounts
from wheelbuild.errors import BuildError, CellError, CommandError, UsageError
from wheelbuild.retry import is_network

if TYPE_CHECKING:
    from apex_installer.make.request import BuildRequest
    from apex_installer.model.cell import Cell
    from wheelbuild.engines.environment import BuildEnvironment
    from wheelbuild.plan import Job
    from wheelbuild.toolkits import Toolkits

PROGRAMS = ("podman", "docker")
LABEL = "wheelbuild.job"
_TAIL = 40
"""Lines in which the reason of an end is looked for."""
LOG = "engine.log"
"""In the job folder's `work`: all that cibuildwheel said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerEngine:
    """One image, one program that runs it."""

    image: str
    program: str
    """`podman` or `docker`."""

    def equip(
        self, job: Job, environment: BuildEnvironment, *, toolkits: Toolkits, cache: Path
    ) -> Tools:
        """Ask the image; a CUDA of this machine is mounted where it has not the cell's."""
        facts = self._read_image(job.cell)
        toolchain = [environment.torch.git, facts.toolchain]
        if facts.nvcc.startswith(f"{job.cell.cuda_text}."):
            home, nvcc, how = facts.cuda_home, facts.nvcc, "the image's"
        else:
            toolkit = prepare_toolkit(job, environment.torch, toolkits=toolkits, cache=cache)
            home, nvcc, how = toolkit.home, read_nvcc_version(toolkit.home), toolkit.how
            toolchain.append(identify(find_cuda_programs(home), torch_git=""))
        name = hashlib.sha256("\n".join(toolchain).encode()).hexdigest()[:16]
        return Tools(
            cuda_home=home,
            nvcc=nvcc,
            gcc=facts.gcc,
            python=facts.python,
            how=how,
            objects=cache / "objects" / f"torch{job.torch}-{name}",
        )

    def build(self, folder: Path, *, request: BuildRequest, out: Path) -> Path:
        """One container; none is left, whatever the end."""
        if importlib.util.find_spec("cibuildwheel") is None:
            raise UsageError("no cibuildwheel: pip install 'wheelbuild[container]'")
        work = folder.absolute() / "work"
        work.mkdir(parents=True, exist_ok=True)
        (work / ERROR).unlink(missing_ok=True)
        fresh = fresh_folder(out.absolute())
        label = f"{LABEL}={hashlib.sha256(bytes(work)).hexdigest()[:16]}"
        project = self._project(folder, request=request, work=work, label=label)
        identifier = f"{request.cell.partition('-')[0]}-manylinux_{_machine(request.cell)}"
        command = [sys.executable, "-m", "cibuildwheel", "--only", identifier]
        command += ["--config-file", "cibuildwheel.toml", "--output-dir", str(fresh)]
        limit = None if request.time_limit is None else request.time_limit + GRACE
        self._remove_containers(label)
        try:
            ran = run_streamed(
                tie(command), cwd=project, environ=_environ(), log=work / LOG, time_limit=limit
            )
        finally:
            self._remove_containers(label)
        if ran.code or len(list(fresh.glob("*.whl"))) != 1:
            raise BuildError(
                f"{request.cell}: {_why(work) or why_ended(ran.output)}; see {work / LOG}"
            )
        return take_wheel(fresh, out=out)

    def policy(self, job: Job) -> str | None:
        """The matrix's, which is that of torch's own wheel."""
        return f"{job.policy}_{_machine(job.cell.label)}"

    def _read_image(self, cell: Cell) -> ImageFacts:
        interpreter = _interpreter(cell.python)
        words = ["run", "--rm", "--entrypoint", "sh", self.image, "-c", PROBE, "sh", interpreter]
        try:
            said = run_command([self.program, *words]).output
        except CommandError as error:
            raise CellError(f"{self.image}: {error}") from error
        return parse_facts(said, image=self.image, interpreter=interpreter)

    def _project(self, folder: Path, *, request: BuildRequest, work: Path, label: str) -> Path:
        """The job folder as the container is to see it, beside it."""
        packages = read_environment(Path(request.interpreter)).package_folders
        shared = [Path(one) for one in (request.objects, request.slots) if one]
        for one in shared:
            one.mkdir(parents=True, exist_ok=True)
        mounts = [Mount(path, writable=True) for path in (work, *shared)]
        here = [*packages, *toolkit_mounts(Path(request.toolkit or ""))]
        mounts += [Mount(path, writable=False) for path in here if path.is_dir()]
        python = request.cell.partition("-")[0]
        inside = replace(request, interpreter=_interpreter(python), work=str(work))
        return write_project(
            folder.with_name("container"),
            job=folder,
            request=inside,
            image=self.image,
            program=self.program,
            mounts=mounts,
            create=[f"--label={label}", f"--env=PYTHONPATH={':'.join(map(str, packages))}"],
        )

    def _remove_containers(self, label: str) -> None:
        """Those of this job that run, or that a killed farm left."""
        found = run_command([self.program, "ps", "-aq", "--filter", f"label={label}"], check=False)
        if found.output.split():
            run_command([self.program, "rm", "-f", *found.output.split()], check=False)


def find_program(name: str) -> str:
    """`podman` or `docker` as asked; `container` takes the first that is there."""
    names = PROGRAMS if name == "container" else (name,)
    found = next((one for one in names if shutil.which(one)), None)
    if found is None:
        raise UsageError(f"--engine {name}: no {' or '.join(names)} on PATH")
    return found


def _interpreter(python: str) -> str:
    """Where every manylinux image has it."""
    abi = python.removesuffix("t")
    return f"/opt/python/{abi}-{python}/bin/python"


def _machine(cell: str) -> str:
    """`x86_64`."""
    return cell.rpartition("-")[2].removeprefix("linux_")


def _why(work: Path) -> str:
    """The backend's one line."""
    path = work / ERROR
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def why_ended(said: str) -> str:
    """The line that blames the network, since that is worth another try; else the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()][-_TAIL:]
    return next(filter(is_network, reversed(lines)), lines[-1] if lines else "it said nothing")


def _environ() -> dict[str, str]:
    """Ours, without what would overrule the settings that are written for this job."""
    dropped = ("CIBW_", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
