"""The one build path: capture -> graph -> link -> pack. Farm and pod call the same function."""

from __future__ import annotations

import contextlib
import glob
import os
import sys
from dataclasses import dataclass, replace
from typing import Any, Callable, ContextManager, Dict, List, Mapping, Optional, Tuple

from apex_installer.errors import CompileError
from apex_installer.make.account import (
    BUILD,
    account_of,
    cpu_seconds,
    describe_objects,
    read_timings,
    write_json,
    write_timings,
)
from apex_installer.make.capture import Capture, run_capture
from apex_installer.make.compiler_cache import CompilerCache, run_compiler_cache
from apex_installer.make.estimate import estimate
from apex_installer.make.freshness import Keys, find_work, remove_outdated
from apex_installer.make.graph import (
    LINK,
    Graph,
    Sources,
    build_graph,
    include_folders,
    may_shadow,
)
from apex_installer.make.pack import pack_wheel
from apex_installer.make.prepare import Tools, prepare_tools
from apex_installer.make.process import signals_as_exceptions
from apex_installer.make.progress import Progress, ProgressPrinter
from apex_installer.make.request import BuildRequest
from apex_installer.make.run import Made, Settings, run_graph
from apex_installer.make.store import Places, Store
from apex_installer.make.variants import Compiled, make_variants
from apex_installer.make.width import Width, choose_width, read_limits
from apex_installer.make.workshop import Workshop, open_workshop, read_text


@dataclass(frozen=True)
class Built:
    """What a build made, and what it took."""

    wheel: str
    """Path."""
    modules: Mapping[str, str]
    """Import name -> path of the linked module."""
    seconds: float
    cpu_seconds: float
    """User and system, of the whole tree."""
    timeline: Tuple[Mapping[str, Any], ...]
    """One line per compiler or linker that was started; empty where nothing had changed."""
    account: Mapping[str, Any]
    """What `build.json` in the work folder holds."""


def build_wheel(
    request: BuildRequest,
    *,
    out: str,
    log: str,
    environ: Optional[Mapping[str, str]] = None,
    on_progress: Optional[Callable[[Progress], None]] = None,
) -> Built:
    """Build one wheel into the folder `out`; the whole log goes to the file `log`.

    ToolkitError names all that the machine lacks, CompileError the first error with file and
    line, DeadlineError the time limit; on each of them no child process is left.
    """
    used, printer = cpu_seconds(), ProgressPrinter(sys.stderr)
    with signals_as_exceptions(), open_workshop(request, log=log) as shop:
        tools = _prepare(request, shop, environ=os.environ if environ is None else environ)
        capture = _capture(request, tools, shop)
        graph = _plan(request, capture, tools, shop)
        try:
            made, account = _compile(
                request, capture, graph, tools, shop, on_progress=on_progress or printer
            )
        finally:
            printer.close()
        modules = {node.module: made.paths[node.name] for node in graph.of_kind(LINK)}
        wheel = pack_wheel(request, capture=capture, modules=modules, out=out)
        shop.mark("pack")
    account.update(
        steps=shop.seconds,
        seconds=round(sum(shop.seconds.values()), 3),
        cpu_seconds=round(cpu_seconds() - used, 3),
    )
    write_json(os.path.join(shop.work, BUILD), account)
    return Built(
        wheel=wheel,
        modules=modules,
        seconds=account["seconds"],
        cpu_seconds=account["cpu_seconds"],
        timeline=tuple(account["timeline"]),
        account=account,
    )


def _prepare(request: BuildRequest, shop: Workshop, *, environ: Mapping[str, str]) -> Tools:
    tools = prepare_tools(request, environ=environ, work=shop.work, temporary=shop.private)
    shop.note(f"toolkit: {tools.toolkit}")
    shop.note(f"compiler: {tools.compiler.cxx} {tools.compiler.version}")
    if tools.removed:
        shop.note(f"variables left out: {', '.join(tools.removed)}")
    shop.mark("prepare")
    return tools


def _capture(request: BuildRequest, tools: Tools, shop: Workshop) -> Capture:
    folder = os.path.join(shop.private, "capture")
    os.makedirs(folder)
    try:
        capture = run_capture(
            request.interpreter,
            source=request.source,
            argv=request.argv,
            environ=tools.environ,
            build=folder,
            log=shop.log,
            ends_at=shop.ends_at,
        )
    except CompileError as error:
        raise CompileError(f"{error}; see {shop.log}") from error
    found = str(capture.facts["torch"])
    if found != request.torch:
        raise CompileError(
            f"{request.interpreter} has torch {found}, but {request.cell} is to be built against "
            f"{request.torch}"
        )
    shop.mark("capture")
    return capture


def _plan(request: BuildRequest, capture: Capture, tools: Tools, shop: Workshop) -> Graph:
    return build_graph(
        capture,
        modules=request.modules,
        architectures=request.arch,
        shim=shop.shim,
        sources=find_sources(capture, source=request.source),
        # sccache hands the compiler what is preprocessed already: no header would be taken.
        precompile=tools.compiler.is_gcc and request.compiler_cache is None,
        strip=request.strip,
    )


def find_sources(capture: Capture, *, source: str) -> Sources:
    """Read what the graph has to know of the files below `source`."""
    texts = {one.inputs[0]: read_text(one.inputs[0]) for one in capture.compiles}
    return Sources(texts, _find_own_includes(capture, source=source))


def _find_own_includes(capture: Capture, *, source: str) -> Tuple[str, ...]:
    """The source's include folders that a precompiled header may leave out."""
    folders = {folder for one in capture.compiles for folder in include_folders(one.argv)}
    mine = {one for one in folders if one.startswith(source + os.sep)}
    library = glob.glob("/usr/include/c++/*")
    others = {name for one in (*(folders - mine), "/usr/include", *library) for name in _names(one)}
    return tuple(sorted(one for one in mine if not may_shadow(_names(one), others)))


def _names(folder: str) -> List[str]:
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return [f"{one.name}/" if one.is_dir() else one.name for one in entries]


def _compile(
    request: BuildRequest,
    capture: Capture,
    graph: Graph,
    tools: Tools,
    shop: Workshop,
    *,
    on_progress: Callable[[Progress], None],
) -> Tuple[Made, Dict[str, Any]]:
    store, keys_in = _open_store(request, capture, tools, shop)
    keys = keys_in(os.path.join(shop.work, "modules"))
    width = _width(request)
    shop.note(f"{width.jobs} at once: {width.why}")
    settings = Settings(
        environ=tools.environ,
        temporary=shop.private,
        log=shop.log,
        width=width.jobs,
        slots=request.slots,
        ends_at=shop.ends_at,
        nice=request.nice,
    )
    with _open_cache(request, capture, tools, shop) as cache:
        made = run_graph(
            graph,
            find_work(graph, store=store, keys=keys),
            store=store,
            keys=keys,
            seconds=estimate(graph, seen=read_timings(shop.work), modules=request.cpu_seconds),
            settings=replace(
                settings,
                environ={**tools.environ, **cache.environ},
                prefixes=cache.prefixes,
            ),
            on_progress=on_progress,
        )
    shop.note(f"compiler cache: {cache.account or 'none'}")
    write_timings(shop.work, made)
    links = [made.paths[node.name] for node in graph.of_kind(LINK)]
    remove_outdated(os.path.join(shop.work, "modules"), kept=links)
    shop.mark("compile")
    relinked = make_variants(
        request,
        Compiled(graph, made, store, keys_in),
        capture=capture,
        work=shop.work,
        settings=settings,
        on_progress=on_progress,
    )
    shop.mark("variants")
    account = account_of(
        request,
        capture=capture,
        graph=graph,
        made=made,
        tools=tools,
        width=width,
        objects=describe_objects(graph, store=store, keys=keys),
    )
    account["variants"] = {
        "architectures": list(request.variants),
        "links": [one.to_json() for one in relinked],
    }
    return made, {**account, "compiler_cache": cache.account or None}


def _open_cache(
    request: BuildRequest, capture: Capture, tools: Tools, shop: Workshop
) -> ContextManager[CompilerCache]:
    if request.compiler_cache is None:
        return contextlib.nullcontext(CompilerCache())
    home = [tools.toolkit.home] if tools.toolkit else []
    packages = os.path.dirname(str(capture.facts["torch_directory"]))
    return run_compiler_cache(
        request.compiler_cache,
        cuda=tools.toolkit.version if tools.toolkit else "",
        folders=(request.source, packages, shop.shim, *home),
        environ=os.environ,  # its store's address and password, which no compiler is told
    )


def _open_store(
    request: BuildRequest, capture: Capture, tools: Tools, shop: Workshop
) -> Tuple[Store, Callable[[str], Keys]]:
    """The objects, and the keys of a build whose links go into the folder that is named."""
    facts = capture.facts
    places = Places(
        {
            "torch": str(facts["torch_directory"]),
            "site": os.path.dirname(str(facts["torch_directory"])),
            "source": request.source,
            "shim": shop.shim,
            **({"cuda": tools.toolkit.home} if tools.toolkit else {}),
        }
    )
    store = Store(request.objects or os.path.join(shop.work, "objects"), places=places)
    salt = f"{facts['torch']} {facts['torch_git']}"

    def keys_in(modules: str) -> Keys:
        return Keys(store, places, modules=modules, path=tools.environ["PATH"], salt=salt)

    return store, keys_in


def _width(request: BuildRequest) -> Width:
    if request.jobs:
        return Width(request.jobs, f"--jobs {request.jobs}")
    return choose_width(read_limits())
