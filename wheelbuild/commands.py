"""The farm's commands: each takes what the command line says to one library function.

The first line of a function's text is the command's help.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelbuild import test
from wheelbuild.build import BuildOptions, build_cell, find_request, list_variants, read_request
from wheelbuild.compiler_cache import TRUSTED, choose_compiler_cache
from wheelbuild.data import load_data
from wheelbuild.demo import DemoOptions, show_demo
from wheelbuild.engines.choose import choose_engine
from wheelbuild.engines.interpreters import find_minor
from wheelbuild.errors import EXIT_DONE, DataError, UsageError
from wheelbuild.github.repository import SCHEME, pages_url
from wheelbuild.index.admission import check_wheel
from wheelbuild.index.trust import check_trust
from wheelbuild.plan import choose_rows
from wheelbuild.planning_commands import note_failures, plan_jobs
from wheelbuild.publish import publish, reindex, yank
from wheelbuild.python_only import carried_files, find_python_only, make_python_only
from wheelbuild.repair import repair_wheel
from wheelbuild.run import RunOptions, exit_code, run_cells
from wheelbuild.serve import serve
from wheelbuild.sources import publish_requirements, publish_source
from wheelbuild.stamp import entry_of, stamp_wheel
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.stores.place import open_store
from wheelbuild.tables import print_json, print_line, print_table
from wheelbuild.thin_json import list_stale, thin_texts, write_thin_texts
from wheelbuild.upload import upload
from wheelbuild.zipapp import PYTHONS, pack_zipapp

if TYPE_CHECKING:
    import argparse

    from wheelbuild.known_failures import KnownFailure
    from wheelbuild.plan import Job
    from wheelbuild.recipe import Recipe, Ref
    from wheelbuild.run import CellResult
    from wheelbuild.stores.store import Store

logger = logging.getLogger(__name__)


def run_matrix(arguments: argparse.Namespace) -> int:
    """List the cells that are wanted, and why."""
    rows = [
        {
            "cell": row.cell.label,
            "torch": row.torch,
            "architectures": row.architectures.text,
            "variants": row.variants,
            "policy": row.policy,
            "why": row.why,
        }
        for row in choose_rows(load_data(arguments.data), arguments.cells)
    ]
    columns = ("cell", "torch", "architectures", "why")
    print_table(rows, columns=columns, as_json=arguments.json)
    return EXIT_DONE


def run_build(arguments: argparse.Namespace) -> int:
    """Compile one cell; prints the wheel's path."""
    data = load_data(arguments.data)
    plan = plan_jobs(data, arguments, cells=[arguments.cell])
    jobs = (*plan.jobs, *plan.fresh, *(job for job, _ in plan.known))
    if len(jobs) > 1:
        raise UsageError(f"{arguments.cell}: is the start of {len(jobs)} cells; name one")
    if plan.fresh:
        logger.info(
            "%s: the index holds this build; it will not be published again", jobs[0].version
        )
    wheel = build_cell(jobs[0], data=data, options=build_options(arguments))
    return _print_result(
        arguments, wheel=wheel, variants=[str(one) for one in list_variants(wheel)]
    )


def run_repair(arguments: argparse.Namespace) -> int:
    """Make a built wheel small and fit for other machines; prints its path."""
    out = arguments.out or _step_folder(arguments.wheel, "repaired")
    return _print_result(
        arguments, wheel=repair_wheel(arguments.wheel, out=out, policy=arguments.policy)
    )


def run_stamp(arguments: argparse.Namespace) -> int:
    """Write version, torch's pin and the build record into a repaired wheel; prints its path."""
    request = read_request(arguments.job) if arguments.job else find_request(arguments.wheel)
    out = arguments.out or _step_folder(arguments.wheel, "stamped")
    return _print_result(arguments, wheel=stamp_wheel(arguments.wheel, request=request, out=out))


def run_test(arguments: argparse.Namespace) -> int:
    """Test a stamped wheel, installed by apex-install; its evidence goes into its entry."""
    python = arguments.python or Path(find_request(arguments.wheel).interpreter)
    tested = test.run_test(
        arguments.wheel,
        python=python,
        data=load_data(arguments.data),
        on_gpu=arguments.on_gpu,
    )
    return _print_result(arguments, wheel=tested.wheel, tests=tested.evidence)


def run_publish(arguments: argparse.Namespace) -> int:
    """Put a tested wheel into an index: a folder, or with --to any that twine can upload to."""
    entry = entry_of(arguments.wheel)
    if arguments.to:
        check_wheel(arguments.wheel, entry)
        check_trust(arguments.wheel)
        uploaded = upload(arguments.wheel, to=arguments.to, environ=os.environ)
        return _print_result(arguments, file=uploaded.file, state=uploaded.state)
    store = _store(arguments)
    published = publish(arguments.wheel, entry, store=store, force=arguments.force)
    logger.info("%s", published.state)
    return _print_result(arguments, file=published.entry.file, state=published.state)


def run_index(arguments: argparse.Namespace) -> int:
    """Render all pages of an index again; --yank and --unyank change an entry first."""
    store = DirectoryStore(arguments.index)
    changed = len(reindex(store=store))
    if arguments.yank:
        changed += len(yank(arguments.yank, reason=arguments.reason, store=store).pages)
    if arguments.unyank:
        changed += len(yank(arguments.unyank, reason=None, store=store).pages)
    return _print_result(arguments, index=arguments.index, changed=changed)


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve an index on the loopback interface, to try it."""
    serve(arguments.index, port=arguments.port, on_ready=print_line)
    return EXIT_DONE


def run_python_only(arguments: argparse.Namespace) -> int:
    """Pack the wheels that need no compiler: pure Python, with stand-ins for some modules.

    With --publish into the index too, below `python/simple/`, where no other wheel is.
    """
    recipe = load_data(arguments.data).recipe
    store = _store(arguments)
    held = store.entries() if arguments.publish else ()
    for ref in _refs_of(arguments, recipe):
        made = make_python_only(
            recipe,
            ref,
            given=arguments.source and arguments.source.absolute(),
            cache=arguments.cache.absolute(),
            folder=_python_only_folder(arguments),
            held=held,
        )
        logger.info("%s: %d bytes", ref.name, made.entry.size)
        state = (
            publish(made.wheel, made.entry, store=store).state if arguments.publish else "packed"
        )
        _print_result(arguments, wheel=made.wheel, ref=ref.name, state=state)
    return EXIT_DONE


def run_sources(arguments: argparse.Namespace) -> int:
    """Put sources and build requirements into the index, for pods that compile."""
    data = load_data(arguments.data)
    store, cache = DirectoryStore(arguments.index), arguments.cache.absolute()
    for ref in _refs_of(arguments, data.recipe):
        given = arguments.source and arguments.source.absolute()
        name = publish_source(data.recipe, ref, given=given, cache=cache, store=store)
        _print_result(arguments, ref=ref.name, source=name)
    publish_requirements(data.toolkits.build_requirements, cache=cache, store=store)
    return EXIT_DONE


def _refs_of(arguments: argparse.Namespace, recipe: Recipe) -> list[Ref]:
    """The named refs, or all; UsageError for an unknown one, or a --source for several."""
    known = {ref.name: ref for ref in recipe.refs}
    unknown = [name for name in arguments.refs if name not in known]
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: no such ref; there are {', '.join(known)}")
    refs = [known[name] for name in arguments.refs or known]
    if arguments.source and len(refs) > 1:
        raise UsageError(f"--source is one ref's: name which, of {', '.join(known)}")
    return refs


def _python_only_folder(arguments: argparse.Namespace) -> Path:
    return Path(arguments.cache.absolute() / "python-only")


def run_zipapp(arguments: argparse.Namespace) -> int:
    """Pack apex-install and its data into one file; prints its path."""
    data = load_data(arguments.data)
    found = find_python_only(data.recipe, folder=_python_only_folder(arguments))
    name = (arguments.store or "").removeprefix(SCHEME)
    packed = pack_zipapp(
        out=arguments.out,
        texts=thin_texts(data),
        carried=carried_files(found.values()),
        index_url=arguments.index_url or (name and pages_url(name)),
        repository_url=arguments.repository_url or (name and f"https://github.com/{name}"),
    )
    lacking = [ref.name for ref in data.recipe.refs if ref.name not in found]
    if lacking:
        logger.info("no Python-only wheel of %s: see wheelbuild python-only", ", ".join(lacking))
    absent = [minor for minor in PYTHONS if find_minor(minor) is None]
    if absent:
        logger.info("no Python %s here: on these it starts slower", ", ".join(absent))
    return _print_result(arguments, zipapp=packed)


def run_run(arguments: argparse.Namespace) -> int:
    """Take cells through all steps: build, repair, stamp, test, publish."""
    data = load_data(arguments.data)
    options = RunOptions(
        build=build_options(arguments),
        store=_store(arguments),
        on_gpu=arguments.on_gpu,
        policy=arguments.policy,
        force=arguments.force,
    )
    cache = options.build.compiler_cache
    if cache and not cache.is_trusted:
        raise UsageError(
            f"run publishes, and nothing that --compiler-cache {cache.name} made is published: "
            f"use build, or --compiler-cache {TRUSTED} if only builds that may publish write there"
        )
    plan = plan_jobs(data, arguments, cells=arguments.cells)
    if plan.fresh:
        reindex(store=options.store)  # a run killed after its last entry left the pages behind it
    results = run_cells(plan.jobs, data=data, options=options)
    if arguments.note_failures:
        note_failures(data.directory, [result.ending for result in results])
    rows = [_result_row(result) for result in results]
    rows += [{"cell": job.cell.label, "state": "fresh", "said": job.version} for job in plan.fresh]
    rows += [_known_row(job, failure) for job, failure in plan.known]
    columns = ("cell", "state", "step", "seconds", "said")
    print_table(rows, columns=columns, as_json=arguments.json)
    return exit_code(results)


def run_demo(arguments: argparse.Namespace) -> int:
    """Show it all on this machine: build, publish, install by apex-install, pip and uv."""
    return show_demo(DemoOptions(build=build_options(arguments), data=arguments.data))


def run_data(arguments: argparse.Namespace) -> int:
    """Check the data; --write makes the JSON of the thin part from it."""
    data = load_data(arguments.data)
    if arguments.write:
        written = [str(path) for path in write_thin_texts(data)]
        return _print_result(arguments, data=data.directory, written=written)
    stale = () if arguments.data else list_stale(data)
    if stale:
        raise DataError(f"{', '.join(stale)}: not what the TOML says: wheelbuild data --write")
    return _print_result(arguments, data=data.directory)


def _store(arguments: argparse.Namespace) -> Store:
    return open_store(arguments.index, arguments.store, environ=os.environ)


def _result_row(result: CellResult) -> dict[str, Any]:
    return {
        "cell": result.job.cell.label,
        "state": result.state,
        "step": result.step,
        "seconds": round(result.seconds),
        "said": result.said,
    }


def _known_row(job: Job, failure: KnownFailure) -> dict[str, Any]:
    said = f"{failure.since}: {failure.error}"
    return {"cell": job.cell.label, "state": "known", "step": failure.step, "said": said}


def build_options(arguments: argparse.Namespace) -> BuildOptions:
    """What the command line says of building."""
    cache = arguments.cache.absolute()
    return BuildOptions(
        cache=cache,
        work=cache / "work",
        source=arguments.source and arguments.source.absolute(),
        # Not resolved: a virtual environment is known by its own link.
        python=arguments.python and arguments.python.absolute(),
        jobs=arguments.jobs,
        time_limit=arguments.time_limit,
        # Not the machines' that share a cache: each has compilers of its own.
        slots=cache / "slots" / os.uname().nodename,
        engine=choose_engine(arguments.engine, image=arguments.image),
        compiler_cache=choose_compiler_cache(arguments.compiler_cache, engine=arguments.engine),
    )


def _step_folder(wheel: Path, name: str) -> Path:
    """Beside `built/` in the cell's work folder, else beside the wheel."""
    parent = wheel.absolute().parent
    in_work_folder = parent.name in ("built", "repaired", "stamped")
    return (parent.parent if in_work_folder else parent) / name


def _print_result(arguments: argparse.Namespace, **result: Any) -> int:
    """The result's path or word alone, for the next step's command line; or all of it as JSON."""
    if arguments.json:
        print_json(result)
    else:
        print_line(str(next(iter(result.values()))))
    return EXIT_DONE
