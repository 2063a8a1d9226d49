"""What to build: one frozen value, `job.json` on the farm, made in memory on a pod."""

from __future__ import annotations

import json
import os
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any, Dict, Mapping, Optional, Tuple

from apex_installer.errors import UsageError
from apex_installer.model.arch import Architectures

SCHEMA = 1
"""Of `job.json`; a reader refuses another one in one line."""

_PATHS = ("source", "work", "objects", "toolkit", "interpreter")
_TUPLES = ("modules", "argv", "requires", "variants")


@dataclass(frozen=True)
class BuildRequest:
    """Everything that a build reads, beside the source and the interpreter's own torch."""

    source: str
    """Folder that holds the ref's `setup.py`; never written to. Relative to the job folder."""
    interpreter: str
    """The target's Python, which holds the torch to build against."""
    distribution: str
    """`apex`: Name in METADATA and in the wheel's file name."""
    package: str
    """`apex`: the import name whose presence in the wheel is checked."""
    version: str
    """`0.1+20260708.cu130.torch2.11`."""
    cell: str
    """Text form of the cell."""
    torch: str
    """The exact version that must be found: `2.11.0+cu130`."""
    modules: Tuple[str, ...]
    """Import names of the modules to make; every other one of setup.py is left out."""
    architectures: str
    """Text form of `Architectures`: `8.0;9.0+PTX`; empty where no module has device code."""
    work: str
    """Folder for objects, timings and logs; what is there from before is reused."""
    objects: Optional[str] = None
    """Folder for objects that other builds of this torch × CUDA share; None: one in `work`."""
    build_tag: int = 0
    """PEP 427 build tag; 0 means none."""
    argv: Tuple[str, ...] = ()
    """Flags that the ref takes before the command: `("--cpp_ext", "--cuda_ext")`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the ref takes its flags by: `{"APEX_CPP_EXT": "1"}`."""
    requires: Tuple[str, ...] = ()
    """Requires-Dist of the wheel, torch's pin included."""
    requires_python: str = ""
    """Requires-Python of the wheel; empty: setup()'s own."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the build record which the build itself does not need: ref, recipe digest, …"""
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU-seconds per module, measured by the recipe: for the order and for the time left."""
    toolkit: Optional[str] = None
    """CUDA_HOME to use; None: looked for, and none is needed without `.cu` files."""
    jobs: Optional[int] = None
    """Width; None: from CPU and memory."""
    compiler_cache: Optional[str] = None
    """The sccache to run compilers by; None: they are run as they are."""
    slots: Optional[str] = None
    """Folder by which builds at the same time share their width; None: this one has it alone."""
    time_limit: Optional[float] = None
    """Seconds for the whole build; None: no limit."""
    nice: int = 0
    """Added to the compilers' niceness."""
    variants: Tuple[str, ...] = ()
    """Architectures that get a wheel of their own beside the plain one: `("8.0", "9.0")`."""
    variant: str = ""
    """Label of the variant that this is about (`sm90`), which was made with the plain wheel."""
    strip: bool = False
    """Whether modules are linked without symbol table (a pod); the farm's repair strips itself."""
    schema: int = SCHEMA

    @property
    def arch(self) -> Optional[Architectures]:
        """The parsed form, or None where no module has device code."""
        return Architectures.parse(self.architectures) if self.architectures else None

    def with_jobs(self, jobs: int) -> BuildRequest:
        """The same with another width."""
        return replace(self, jobs=jobs)

    def to_json(self) -> str:
        """The text of `job.json`; `from_json` reads it back to an equal request."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, *, folder: str = "", file: str = "job.json") -> BuildRequest:
        """Read `job.json`, or a `file` of another name; relative paths are taken from its `folder`.

        UsageError names all that is missing, unknown or of another schema, at once.
        """
        try:
            data: Dict[str, Any] = dict(json.loads(text))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{os.path.join(folder, file)}: not a job: {error}") from error
        known = {one.name: one for one in fields(cls)}
        faults = [f"unknown key {name!r}" for name in sorted(set(data) - set(known))]
        needed = [one.name for one in fields(cls) if one.default is MISSING]
        needed = [name for name in needed if known[name].default_factory is MISSING]
        faults += [f"no {name!r}" for name in needed if name not in data]
        if data.get("schema", SCHEMA) != SCHEMA:
            faults = [f"schema {data['schema']!r}, but this program reads {SCHEMA}"]
        if faults:
            raise UsageError(f"{os.path.join(folder, file)}: {'; '.join(faults)}")
        values = {**data, **{name: tuple(data[name]) for name in _TUPLES if name in data}}
        for name in _PATHS:
            if values.get(name):
                values[name] = os.path.normpath(os.path.join(folder, values[name]))
        return cls(**values)
