"""The plan: the cells that are wanted, less what is published and fresh, as ordered jobs. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from apex_installer.errors import UsageError as ThinUsageError
from apex_installer.model.arch import Architectures
from apex_installer.model.key import BuildInputs
from wheelbuild.errors import DataError, UsageError
from wheelbuild.matrix_toml import ptx_fault
from wheelbuild.recipe import recipe_digest
from wheelbuild.thin_json import thin_recipe
from wheelbuild.variants import choose_architectures, find_lacking

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apex_installer.model.cell import Cell
    from apex_installer.model.entry import Entry
    from wheelbuild.data import FarmData
    from wheelbuild.matrix import Row
    from wheelbuild.recipe import Recipe, Ref

FIRST_REBUILD = 2
"""Build tag of the first rebuild: pip and uv take `-2-` over no tag, and 1 would read like the
first build (PEP 427: no tag sorts lowest)."""
DIGEST_SHOWN = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One wheel to build: all that the steps need to know, nothing they must look up again."""

    cell: Cell
    distribution: str
    package: str
    torch_release: str
    """What pip is asked for: `2.11.0`."""
    torch: str
    """The exact version it must turn out to be: `2.11.0+cu130`."""
    torch_index: str
    """`https://pypi.org/simple` or torch's own index for this CUDA."""
    git_url: str
    """Empty where the recipe brings its source."""
    ref: str
    """Full commit hash."""
    ref_name: str
    """The tag, for people: `25.04`."""
    version: str
    """`0.1+20250411.cu121.torch2.4`, with the suffix."""
    build_tag: int
    """PEP 427; 0 means none."""
    suffix: str
    """`norm.sm90` for less than the default set or the cell's architectures, else empty."""
    modules: tuple[str, ...]
    """Import names, sorted."""
    architectures: Architectures
    policy: str
    """manylinux policy of torch's own wheel: `manylinux_2_28`."""
    cxx11_abi: bool
    requires: tuple[str, ...]
    """Requires-Dist, torch's pin first."""
    argv: tuple[str, ...]
    """Options for the ref's setup.py, before the command."""
    environment: Mapping[str, str]
    """Variables for the ref's setup.py."""
    cpu_seconds: float
    """Estimate for the modules, one architecture."""
    recipe_digest: str
    """sha256 over what this cell's build reads of the data."""
    why: str
    """The matrix's reason for the cell."""
    variants: tuple[str, ...] = ()
    """Architectures that get a wheel of their own beside the plain one: `8.0`, `9.0`."""

    def key(self, torch_git: str) -> str:
        """The build's key, for a torch of this git hash; the same function as the thin part's."""
        return BuildInputs(
            python=self.cell.python,
            torch=self.torch,
            torch_git=torch_git,
            cuda=self.cell.cuda_text,
            cxx11_abi=self.cxx11_abi,
            modules=self.modules,
            architectures=self.architectures.text,
            recipe_digest=self.recipe_digest,
        ).key


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to build, and what need not be."""

    jobs: tuple[Job, ...]
    fresh: tuple[Job, ...]
    """Wanted, but the newest plain entry of that cell and version has the same key, and all
    variants that are wanted lie beside it."""


def plan(
    data: FarmData,
    entries: Iterable[Entry] = (),
    *,
    cells: Iterable[str] = (),
    only: Iterable[str] = (),
    arch: str | None = None,
    force: bool = False,
) -> tuple[Job, ...]:
    """Return the jobs in the matrix's order; UsageError for a cell that is excluded or unknown.

    `entries`: the index's. `cells`: labels or beginnings of labels, all when empty. `only`:
    modules, groups or classes. `arch`: torch's form, `9.0` or `8.0;9.0+PTX`. `force`: also what is
    fresh.
    """
    return make_plan(data, entries, cells=cells, only=only, arch=arch, force=force).jobs


def make_plan(
    data: FarmData,
    entries: Iterable[Entry] = (),
    *,
    cells: Iterable[str] = (),
    only: Iterable[str] = (),
    arch: str | None = None,
    force: bool = False,
) -> Plan:
    """As `plan`, with what is fresh beside it."""
    published, words = tuple(entries), tuple(only)
    architectures = _read_arch(arch)
    jobs: list[Job] = []
    fresh: list[Job] = []
    for row in choose_rows(data, cells):
        job = make_job(data, row, only=words, architectures=architectures)
        newest = find_newest(published, job)
        if newest is None or not is_current(newest, job) or force:
            jobs.append(_with_tag(job, newest))
        elif find_lacking(job.variants, newest, published):
            jobs.append(replace(job, build_tag=newest.build_tag))
        else:
            fresh.append(job)
    return Plan(jobs=tuple(jobs), fresh=tuple(fresh))


def choose_rows(data: FarmData, cells: Iterable[str]) -> tuple[Row, ...]:
    """Rows that are named, each once, in the matrix's order; all when none is named.

    UsageError names every cell that is excluded or unknown, with the reason or the nearest.
    """
    wanted = tuple(cells)
    if not wanted:
        return data.matrix.rows
    chosen, faults = set(), []
    for name in wanted:
        try:
            chosen |= {row.cell for row in data.matrix.find_rows(name)}
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError("\n".join(faults))
    return tuple(row for row in data.matrix.rows if row.cell in chosen)


def make_job(
    data: FarmData, row: Row, *, only: tuple[str, ...], architectures: Architectures | None
) -> Job:
    """One cell's job, without a build tag."""
    recipe, cell, ref = data.recipe, row.cell, data.recipe.find_ref(row.cell.torch)
    if ref is None:
        raise DataError(f"{cell.label}: no ref of the recipe serves torch {cell.torch_text}")
    modules = choose_modules(recipe, ref, cell, only)
    asked = architectures or row.architectures
    _check_arch(data, row, asked)
    suffix = ".".join(
        part
        for part in (modules_suffix(recipe, ref, cell, modules), arch_suffix(row, asked))
        if part
    )
    argv, environment = recipe.list_flags(ref, modules)
    version = f"{recipe.base_version}+{ref.date}.{cell.cuda_tag}.torch{cell.torch_text}"
    return Job(
        cell=cell,
        distribution=recipe.distribution,
        package=recipe.package,
        torch_release=row.torch_release,
        torch=row.torch,
        torch_index=row.torch_index,
        git_url=recipe.git_url,
        ref=ref.commit,
        ref_name=ref.name,
        version=f"{version}.{suffix}" if suffix else version,
        build_tag=0,
        suffix=suffix,
        modules=modules,
        architectures=asked,
        variants=choose_architectures(asked) if row.variants else (),
        policy=row.policy,
        cxx11_abi=row.cxx11_abi,
        requires=(f"torch=={cell.torch_text}.*", *(one.specifier for one in ref.requirements)),
        argv=argv,
        environment=environment,
        cpu_seconds=sum(recipe.modules[name].cpu_seconds for name in modules),
        recipe_digest=recipe_digest(
            recipe, ref=ref, modules=modules, toolkit=data.toolkits.get(cell.cuda)
        ),
        why=row.why,
    )


def choose_modules(recipe: Recipe, ref: Ref, cell: Cell, only: tuple[str, ...]) -> tuple[str, ...]:
    """The default set, or what the words of `--only` name; UsageError for what this cell lacks."""
    if not only:
        return recipe.list_default(ref, cell.cuda)
    try:
        wanted = set(thin_recipe(recipe).modules_for(only, flag="--only"))
    except ThinUsageError as error:
        raise UsageError(str(error)) from error
    lacking = sorted(wanted - recipe.list_modules(ref, cell.cuda))
    if lacking:
        raise UsageError(
            f"--only: {ref.name} has no {', '.join(lacking)} for CUDA {cell.cuda_text} "
            f"({cell.label})"
        )
    return tuple(sorted(wanted))


def modules_suffix(recipe: Recipe, ref: Ref, cell: Cell, modules: tuple[str, ...]) -> str:
    """Empty where the default set is held; else the group's name, or `only` and 8 hex digits."""
    if set(recipe.list_default(ref, cell.cuda)) <= set(modules):
        return ""
    made = recipe.list_modules(ref, cell.cuda)
    for name, group in recipe.groups.items():
        if set(group) & made == set(modules):
            return name
    digest = hashlib.sha256("\n".join(sorted(modules)).encode()).hexdigest()
    return f"only{digest[:DIGEST_SHOWN]}"


def arch_suffix(row: Row, asked: Architectures) -> str:
    """Empty for the cell's own architectures; else `sm90` or `sm80.sm90.ptx90`."""
    if asked == row.architectures:
        return ""
    names = [f"sm{arch.replace('.', '')}" for arch in asked.machine_code]
    return ".".join([*names, *(f"ptx{arch.replace('.', '')}" for arch in asked.ptx)])


def is_current(entry: Entry, job: Job) -> bool:
    """Whether the job would make that plain wheel again."""
    return entry.key == job.key(entry.torch_git)


def find_newest(entries: Iterable[Entry], job: Job) -> Entry | None:
    """Return the plain entry of this cell and version with the highest build tag, yanked or not.

    A yanked one counts: the same inputs would make the same wheel again.
    """
    same = [
        entry
        for entry in entries
        if (entry.distribution, entry.cell, entry.version, entry.variant)
        == (job.distribution, job.cell.label, job.version, "")
    ]
    return max(same, key=lambda entry: entry.build_tag, default=None)


def _with_tag(job: Job, newest: Entry | None) -> Job:
    if newest is None:
        return job
    return replace(job, build_tag=max(newest.build_tag + 1, FIRST_REBUILD))


def _read_arch(text: str | None) -> Architectures | None:
    if text is None:
        return None
    try:
        found = Architectures.parse(text)
    except ThinUsageError as error:
        raise UsageError(f"--arch: {error}") from error
    fault = ptx_fault(found)
    if fault:
        raise UsageError(f"--arch {text}: {fault}")
    return found


def _check_arch(data: FarmData, row: Row, asked: Architectures) -> None:
    """What the matrix says was checked when it was read; this is for `--arch`."""
    toolkit = data.toolkits.get(row.cell.cuda)
    if toolkit is None or asked == row.architectures:
        return
    lacking = sorted({*asked.machine_code, *asked.ptx} - set(toolkit.architectures))
    if lacking:
        raise UsageError(
            f"--arch: nvcc of CUDA {row.cell.cuda_text} makes no code for {', '.join(lacking)} "
            f"({row.cell.label}); it makes {', '.join(toolkit.architectures)}"
        )
