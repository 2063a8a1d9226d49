"""Which engine is meant by what the command line says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelbuild.engines.container import ContainerEngine, find_program
from wheelbuild.engines.local import LocalEngine
from wheelbuild.errors import UsageError

if TYPE_CHECKING:
    from wheelbuild.engines.engine import Engine

NAMES = ("local", "container", "podman", "docker")


def choose_engine(name: str, *, image: str | None) -> Engine:
    """One of NAMES; UsageError where it and the image do not go together."""
    if name == "local":
        if image:
            raise UsageError("--image is for --engine container")
        return LocalEngine()
    if not image:
        raise UsageError(f"--engine {name}: name the manylinux image with --image")
    return ContainerEngine(image=image, program=find_program(name))
