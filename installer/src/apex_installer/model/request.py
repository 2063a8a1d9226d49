"""The request: what the caller asked for, flags and variables already joined."""

from __future__ import annotations

from typing import Optional, Tuple

from apex_installer.values import dataclass


@dataclass(frozen=True)
class Request:
    """One install, dry run, check or removal."""

    index_url: Optional[str] = None
    allow_http: bool = False
    python: Optional[str] = None
    target: Optional[str] = None
    cache_dir: Optional[str] = None
    require: Tuple[str, ...] = ()
    at_least: str = "python-only"
    offline: bool = False
    dry_run: bool = False
    gpu: Optional[str] = None
    deadline: float = 60.0
    """Seconds for everything but compiling."""
    compile_timeout: float = 600.0
    """Seconds for a compile of what is required; 0 leaves compiling out."""
    source: Optional[str] = None
    """A checkout of the ref to compile, or an archive of one."""
    toolkit: Optional[str] = None
    """`auto` (None), `apt`, `archive`, `pypi` or the folder of a toolkit."""
    toolkits: Optional[str] = None
    """A pins file in place of our own."""
    cuda_mirror: Optional[str] = None
    """In place of NVIDIA's address for archives."""
    pypi_url: Optional[str] = None
    """A simple index to find NVIDIA's wheels and build requirements on."""
    background: bool = False
    """Whether the rest of the default set compiles after the install; a variable alone says so."""
    keep_foreign: bool = False
    replace_foreign: bool = False
    app: Tuple[str, ...] = ()
    """The app's own command, read only to find the interpreter."""
