"""The build record: what a wheel says of its own making, a JSON file in its dist-info.

No clock and no machine's name is in it, so that the same build gives the same wheel.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from apex_installer.model.entry import Module
from apex_installer.model.key import BuildInputs
from wheelbuild.errors import WheelError

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "build-record.json"
"""Its name in the dist-info."""

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRecord:
    """Enough to say whether another build would make the same, and what this one needs to run."""

    cell: str
    suffix: str
    recipe_digest: str
    ref: str
    """The source's commit, full hash."""
    source: str
    """`pinned` (fetched, its hash checked), `checkout` (of that commit) or `folder` (unknown)."""
    torch: str
    torch_git: str
    cxx11_abi: bool
    cuda: str
    nvcc: str
    """Release of the compiler, `13.0.88`."""
    gcc: str
    """Release of the host compiler, `12.2.0`."""
    python: str
    """Release built with, `3.11.7`."""
    architectures: str
    """What was asked for, as torch writes it; empty where no module holds device code."""
    asked: tuple[str, ...]
    """Modules that were asked for, sorted; `modules` are those that were found."""
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    modules: tuple[Module, ...]
    floors: Mapping[str, str]
    symbols_digest: str
    compiler_cache: str = ""
    """`sccache` or `trusted-sccache`, whose objects the wheel may hold; empty: none."""
    variant: str = ""
    """Label of a variant, whose `architectures` is that one; empty for the plain wheel."""

    @property
    def key(self) -> str:
        """Names this build; the same function as everywhere."""
        return BuildInputs(
            python=self.cell.partition("-")[0],
            torch=self.torch,
            torch_git=self.torch_git,
            cuda=self.cuda,
            cxx11_abi=self.cxx11_abi,
            modules=tuple(module.name for module in self.modules),
            architectures=self.architectures,
            recipe_digest=self.recipe_digest,
        ).key

    def to_json(self) -> str:
        """Sorted, one value a line; the key is written too, for people."""
        data = {"schema": SCHEMA, "key": self.key, **asdict(self)}
        if not self.compiler_cache:
            del data["compiler_cache"]
        return json.dumps(data, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str) -> BuildRecord:
        """Read it back; WheelError names `where` for one that is broken, unknown or untrue."""
        try:
            data: dict[str, Any] = json.loads(text)
            schema, key = data.pop("schema"), data.pop("key")
            if schema != SCHEMA:
                raise WheelError(f"{where}: build record of schema {schema}, this farm reads 1")
            modules = tuple(_module(module) for module in data["modules"])
            lists = {name: tuple(data[name]) for name in ("argv", "asked")}
            record = cls(**{**data, **lists, "modules": modules})
        except (KeyError, TypeError, ValueError) as error:
            raise WheelError(f"{where}: not a build record: {error}") from error
        if record.key != key:
            raise WheelError(f"{where}: the build record's key is not that of its own values")
        return record


def _module(data: Mapping[str, Any]) -> Module:
    return Module(
        name=data["name"],
        file=data["file"],
        machine_code=tuple(data["machine_code"]),
        ptx=tuple(data["ptx"]),
        needed=tuple(data["needed"]),
    )
