"""The seam of engines: build one job somewhere; bring its wheel, log and record back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from apex_installer.make.request import BuildRequest
    from wheelbuild.engines.environment import BuildEnvironment
    from wheelbuild.plan import Job
    from wheelbuild.toolkits import Toolkits


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What the compile will be done with, as it is where the engine builds."""

    cuda_home: str
    nvcc: str
    """`13.0.88`."""
    gcc: str
    """`12.2.0`."""
    python: str
    """Release of the interpreter that builds, `3.11.7`."""
    how: str
    """Where the toolkit was found, for people."""
    objects: Path
    """Where objects are shared with other cells."""


class Engine(Protocol):
    """One way to build a job folder."""

    def equip(
        self, job: Job, environment: BuildEnvironment, *, toolkits: Toolkits, cache: Path
    ) -> Tools:
        """See to it that all tools are there; CellError names what is not."""
        ...

    def build(self, folder: Path, *, request: BuildRequest, out: Path) -> Path:
        """Build the job folder and return the wheel in `out`; BuildError says why not.

        What was built before stays there until then. Progress goes to stderr, and the whole log
        and the account of the build to the job folder's `work`.
        """
        ...

    def policy(self, job: Job) -> str | None:
        """The policy that its wheels must be fit for; None: claim what is found."""
        ...
