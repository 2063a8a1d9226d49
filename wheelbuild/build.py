"""Build: from a job to a wheel as the compiler left it, through a job folder."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.make.request import BuildRequest
from apex_installer.make.variants import variant_folder
from wheelbuild.compiler_cache import CompilerCache, apart
from wheelbuild.engines.engine import Engine, Tools
from wheelbuild.engines.environment import BuildEnvironment, find_environment
from wheelbuild.engines.jobfolder import REQUEST, write_job_folder
from wheelbuild.engines.local import LocalEngine
from wheelbuild.errors import UsageError
from wheelbuild.locks import locked
from wheelbuild.retry import with_retries
from wheelbuild.source import Source, find_source
from wheelbuild.variants import label_of

if TYPE_CHECKING:
    from wheelbuild.data import FarmData
    from wheelbuild.plan import Job

logger = logging.getLogger(__name__)

VARIANTS = "variants"
"""In a cell's work folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """Where a build takes things from and puts them, and how wide it may go."""

    cache: Path
    """Sources, environments, toolkits and compiled objects, shared by all cells."""
    work: Path
    """Folder of the work folders, one per cell and suffix."""
    source: Path | None = None
    """A checkout in place of the pinned commit."""
    python: Path | None = None
    """An interpreter that holds the cell's torch already."""
    jobs: int | None = None
    time_limit: float | None = None
    """Seconds for one build."""
    compiler_cache: CompilerCache | None = None
    """None: every object is this machine's own work."""
    slots: Path | None = None
    """Folder by which builds at the same time share their width."""
    engine: Engine = field(default_factory=LocalEngine)
    """Where it is done."""


def build_cell(job: Job, *, data: FarmData, options: BuildOptions) -> Path:
    """Build one job and return its plain wheel, below `<work>/<cell>/built`; repeatable.

    Its variants lie where `list_variants` finds them.
    """
    environment, source, tools = with_retries(
        lambda: _prepare(job, data=data, options=options), what=job.cell.label
    )
    logger.info("CUDA %s (%s), g++ %s", tools.nvcc, tools.how, tools.gcc)
    request = make_request(
        job, environment=environment, source=source, tools=tools, data=data, options=options
    )
    folder = work_folder(job, work=apart(options.work, options.compiler_cache))
    with locked(folder):
        write_job_folder(folder / "job", request=request, source=source)
        built = with_retries(
            lambda: options.engine.build(folder / "job", request=request, out=folder / "built"),
            what=job.cell.label,
        )
        place_variants(folder, request=request)
        return built


def _prepare(
    job: Job, *, data: FarmData, options: BuildOptions
) -> tuple[BuildEnvironment, Source, Tools]:
    """All that may have to be fetched; what was fetched before a failure is there the next time."""
    environment = find_environment(job, python=options.python, cache=options.cache)
    source = find_source(
        job,
        given=options.source or data.recipe.source,
        cache=options.cache,
        submodules=any("submodules" in data.recipe.modules[name].needs for name in job.modules),
    )
    tools = options.engine.equip(job, environment, toolkits=data.toolkits, cache=options.cache)
    return environment, source, tools


def work_folder(job: Job, *, work: Path) -> Path:
    """One per cell, and one per suffix of it."""
    return work / (f"{job.cell.label}.{job.suffix}" if job.suffix else job.cell.label)


def make_request(
    job: Job,
    *,
    environment: BuildEnvironment,
    source: Source,
    tools: Tools,
    data: FarmData,
    options: BuildOptions,
) -> BuildRequest:
    """What the job folder's `job.json` says. Pure."""
    cache = options.compiler_cache
    return BuildRequest(
        source="src",
        work="work",
        objects=str(apart(tools.objects, options.compiler_cache)),
        interpreter=environment.interpreter.executable,
        distribution=job.distribution,
        package=job.package,
        version=job.version,
        build_tag=job.build_tag,
        cell=job.cell.label,
        torch=job.torch,
        modules=job.modules,
        architectures=job.architectures.text,
        argv=job.argv,
        environment=dict(job.environment),
        requires=job.requires,
        variants=job.variants,
        record={
            "suffix": job.suffix,
            "recipe_digest": job.recipe_digest,
            "ref": job.ref,
            "source": source.how,
            "torch_git": environment.torch.git,
            "cxx11_abi": job.cxx11_abi,
            "cuda": job.cell.cuda_text,
            "nvcc": tools.nvcc,
            "gcc": tools.gcc,
            "python": tools.python,
            "compiler_cache": cache.name if cache else "",
        },
        cpu_seconds={name: data.recipe.modules[name].cpu_seconds for name in job.modules},
        toolkit=tools.cuda_home,
        jobs=options.jobs,
        compiler_cache=cache.program if cache else None,
        slots=str(options.slots) if options.slots else None,
        time_limit=options.time_limit,
    )


def place_variants(folder: Path, *, request: BuildRequest) -> None:
    """Give each variant a work folder of its own, so that all further steps are the plain one's.

    <cell>/variants/sm90/job/job.json     what it is: the plain one's request, for one architecture
    <cell>/variants/sm90/built/<wheel>
    """
    shutil.rmtree(folder / VARIANTS, ignore_errors=True)
    for arch in request.variants:
        label = label_of(arch)
        place = folder / VARIANTS / label
        own = replace(request, architectures=arch, variants=(), variant=label)
        for name in ("job", "built"):
            (place / name).mkdir(parents=True)
        (place / "job" / REQUEST).write_text(own.to_json(), encoding="utf-8")
        (made,) = Path(variant_folder(str(folder / "job" / "work"), arch)).glob("*.whl")
        shutil.move(made, place / "built" / made.name)


def list_variants(built: Path) -> tuple[Path, ...]:
    """The wheels beside a built plain one, by label."""
    return tuple(sorted(built.parent.parent.glob(f"{VARIANTS}/*/built/*.whl")))


def find_request(wheel: Path) -> BuildRequest:
    """The request that a wheel in a work folder was built for; UsageError where there is none."""
    path = wheel.resolve().parent.parent / "job" / REQUEST
    if not path.is_file():
        raise UsageError(f"{wheel}: not in a work folder of `build` ({path} is missing): use --job")
    return read_request(path)


def read_request(path: Path) -> BuildRequest:
    """Read a `job.json`."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return BuildRequest.from_json(text, folder=str(path.parent), file=path.name)
