"""The packed installer that carries the small package's Python-only wheel, as a farm packs it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from support.machine import REPOSITORY, SMALL
from wheelbuild.cli import main as farm

if TYPE_CHECKING:
    from collections.abc import Sequence

STANDINS = REPOSITORY / "wheelbuild/recipes/apex/standins"


def small_data(folder: Path, *, lacks: str = "") -> Path:
    """The small package's recipe, with the norm stand-in, whose functions it calls alike.

    It says that a compile takes a second, so that none is left out for want of time. `lacks`: a
    name that the stand-in does not hold, to have one.
    """
    shutil.copytree(SMALL, folder)
    recipe = folder / "recipes/apex"
    shutil.copytree(STANDINS, recipe / "standins")
    text = (recipe / "recipe.toml").read_text()
    wanted = 'test = "tests/fused_layer_norm_cuda.py"\n'
    assert wanted in text
    standin = 'standin = "standins/fused_layer_norm_cuda.py"\n'
    standin += f'standin_lacks = ["{lacks}"]\n' if lacks else ""
    text = text.replace(wanted, wanted + standin).replace("cpu_seconds = 80", "cpu_seconds = 1")
    (recipe / "recipe.toml").write_text(text)
    return folder


def pack_carrying(folder: Path, data: Path, *words: str) -> Path:
    """The zipapp; `words` are more flags of `wheelbuild zipapp`."""
    common: Sequence[str] = ["-q", "--data", str(data), "--cache", str(folder / "cache")]
    assert farm([*common, "python-only"]) == 0
    zipapp = folder / "carrying.pyz"
    assert farm([*common, "zipapp", "--out", str(zipapp), *words]) == 0
    return zipapp
