"""What an index trusts: a wheel whose objects are all of builds that may publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelbuild.compiler_cache import SCCACHE, TRUSTED
from wheelbuild.errors import PublishError, WheelError
from wheelbuild.record import FILE, BuildRecord
from wheelbuild.wheelfile import read_member

if TYPE_CHECKING:
    from pathlib import Path


def check_trust(wheel: Path) -> None:
    """PublishError for a wheel that may hold objects of an untrusted compiler cache."""
    if _cache_of(wheel) == SCCACHE:
        raise PublishError(
            f"{wheel.name}: was built through a compiler cache that others may write to: build it "
            f"without one, or with --compiler-cache {TRUSTED} if only builds that may publish write"
        )


def _cache_of(wheel: Path) -> str:
    """Empty where the wheel has no build record; WheelError for one that is broken."""
    try:
        text = read_member(wheel, FILE).decode()
    except WheelError:
        return ""
    return BuildRecord.from_json(text, where=wheel.name).compiler_cache
