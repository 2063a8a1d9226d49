"""What a build starts and with which variables: all that the machine lacks is named at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Callable, List, Mapping, Optional, Tuple, TypeVar

from apex_installer.errors import ToolkitError
from apex_installer.make.compose import complete_toolkit
from apex_installer.make.needs import (
    HostCompiler,
    Target,
    compiler_environment,
    find_host_compiler,
    read_target,
    target_faults,
)
from apex_installer.make.request import BuildRequest
from apex_installer.make.surroundings import build_environment
from apex_installer.make.toolkit import (
    Candidate,
    Toolkit,
    choose_toolkit,
    find_toolkit,
    read_gcc_limit,
)
from apex_installer.model.cell import Cell

_T = TypeVar("_T")


@dataclass(frozen=True)
class Tools:
    """What a build starts, and the variables it starts it with."""

    toolkit: Optional[Toolkit]
    """None where no module has device code."""
    compiler: HostCompiler
    target: Target
    environ: Mapping[str, str]
    removed: Tuple[str, ...]
    """Variables that would have had a say, and were left out."""


def prepare_tools(
    request: BuildRequest, *, environ: Mapping[str, str], work: str, temporary: str
) -> Tools:
    """Find toolkit, C++ compiler, Python.h; complete the toolkit with torch's headers in `work`.

    ToolkitError holds every fault with its remedy.
    """
    faults: List[str] = []
    toolkit = _or_fault(lambda: _find_toolkit(request, environ), faults)
    limit = read_gcc_limit(toolkit.home) if toolkit else None
    compiler = _or_fault(lambda: find_host_compiler(limit=limit, environ=environ), faults)
    target = _or_fault(lambda: read_target(request.interpreter, environ), faults)
    if target:
        faults += target_faults(target, request.interpreter)
    if faults or compiler is None or target is None:
        raise ToolkitError("; ".join(faults))
    if toolkit:
        into = os.path.join(work, "cuda")
        toolkit = complete_toolkit(toolkit, torch_directory=target.torch_directory, into=into)
    variables, removed = build_environment(
        compiler_environment(compiler, environ),
        flags=request.environment,
        cuda_home=toolkit.home if toolkit else "",
        architectures=torch_list(request),
        temporary=temporary,
    )
    return Tools(toolkit, compiler, target, variables, removed)


def torch_list(request: BuildRequest) -> str:
    """TORCH_CUDA_ARCH_LIST for the capture; what is compiled for is decided by the graph."""
    arch = request.arch
    if arch is None:
        return ""
    return ";".join(f"{one}+PTX" if one in arch.ptx else one for one in arch.machine_code)


def _find_toolkit(request: BuildRequest, environ: Mapping[str, str]) -> Optional[Toolkit]:
    if not request.architectures:
        return None
    cuda = Cell.parse(request.cell).cuda_text
    if request.toolkit:
        return choose_toolkit([Candidate(request.toolkit, "--toolkit")], cuda=cuda)
    return find_toolkit(cuda, environ=environ)


def _or_fault(find: Callable[[], _T], faults: List[str]) -> Optional[_T]:
    try:
        return find()
    except ToolkitError as error:
        faults.append(str(error))
        return None
