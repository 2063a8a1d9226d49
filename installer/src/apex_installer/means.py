"""What one compile may use: pins, a toolkit that is there or is fetched, files, and how long."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Sequence, Tuple

from apex_installer import data
from apex_installer.deadline import Deadline
from apex_installer.errors import UsageError
from apex_installer.get.cache import Cache
from apex_installer.get.supply import Supply, pypi_url_of
from apex_installer.make.pins import Pinned, Pins, parse_pins
from apex_installer.make.plan_here import Wanted, plan_compile
from apex_installer.make.provide import AUTO, Ways, choose_ways, find_there
from apex_installer.make.source import digest_source
from apex_installer.make.toolkit import Toolkit

if TYPE_CHECKING:
    from apex_installer.model.environment import Environment
    from apex_installer.model.recipe import Recipe
    from apex_installer.model.request import Request
    from apex_installer.situation import Situation

LOG = "apex-compile.log"
FLAG = "--compile-timeout"
NO_PINS = '{"schema": 1, "toolkits": {}}'
"""Of a copy that was packed without any: then only a toolkit that is there counts."""


@dataclass(frozen=True)
class Means:
    """What one compile may use, and until when."""

    pins: Pins
    pinned: Optional[Pinned]
    """The toolkit of torch's CUDA."""
    ways: Ways
    there: Optional[Toolkit]
    refused: Tuple[str, ...]
    """Why each toolkit that is there, or each before the one that counts, does not."""
    files: Cache
    """The cache's folder for what is no wheel to install; `supply` fills it."""
    supply: Supply
    folder: str
    log: str
    ends: float
    """Time of `time.monotonic`."""

    @property
    def fetched(self) -> Optional[Pinned]:
        """The toolkit that will be fetched, or None."""
        pinned = self.pinned
        if self.there is not None or pinned is None or pinned.how not in self.ways.ways:
            return None
        return pinned


def load_pins(request: Request) -> Pins:
    """`--toolkits FILE`, else what this copy was packed with; UsageError for a bad file."""
    path = request.toolkits
    if path is None:
        return parse_pins(data.read("toolkits.json") or NO_PINS, where="toolkits.json")
    try:
        with open(path, encoding="utf-8") as file:
            return parse_pins(file.read(), where=f"--toolkits {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--toolkits {path}: {error}") from error


def plan_for(
    request: Request, recipe: Recipe, environment: Environment, modules: Sequence[str]
) -> Wanted:
    """The build that this request means; CompileError where there is none, UsageError for pins."""
    source = digest_source(request.source) if request.source else ""
    pins = load_pins(request).raw
    return plan_compile(recipe, environment, modules, pins, source=source)


def find_means(situation: Situation, *, files: Cache, folder: str, ends: float) -> Means:
    """Read pins and flags, and look for a toolkit that is there; nothing is fetched."""
    request, cuda = situation.request, str(situation.environment.torch.cuda)
    pins = load_pins(request)
    pinned = pins.get(cuda)
    ways = choose_ways(request.toolkit or AUTO, pinned, cuda=cuda)
    there, refused = find_there(cuda, ways, environ=os.environ)
    return Means(
        pins=pins,
        pinned=pinned,
        ways=ways,
        there=there,
        refused=refused,
        files=files,
        supply=Supply(
            cache=files,
            deadline=Deadline(max(ends - time.monotonic(), 0.0), flag=FLAG),
            allow_http=request.allow_http,
            offline=request.offline,
            pypi_url=pypi_url_of(request.pypi_url, os.environ),
        ),
        folder=folder,
        log=os.path.join(os.environ.get("TMPDIR") or "/tmp", LOG),  # noqa: S108 - for people
        ends=ends,
    )
