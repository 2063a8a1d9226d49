"""With a real compiler, a row per outcome: the small package, torch 2.11.0, CUDA 13.0."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.model.entry import Document, Entry
from support.fault import REAL, Fault
from support.machine import SMALL

if TYPE_CHECKING:
    from support.fault import Kits
    from support.start_pod import StartPod

GROUP = "processes"
SOURCE = SMALL / "recipes/apex/source"
SECONDS = "240"


def prepare_real(pod: StartPod, kits: Kits) -> None:
    """The app's Python has the real torch, which all share: the target is a folder of its own."""
    target = pod.root / "target"
    target.mkdir()
    shutil.copytree(SOURCE, pod.root / "source")
    shutil.rmtree(pod.tiny.index)
    pod.environ["PATH"] += f":{os.environ['PATH']}"
    pod.set(
        APEX_INSTALL_PYTHON=str(kits.torch.build_python),
        APEX_INSTALL_TARGET=str(target),
        APEX_INSTALL_SOURCE=str(pod.root / "source"),
        APEX_INSTALL_COMPILE_TIMEOUT=SECONDS,
        APEX_INSTALL_CACHE_DIR=str(kits.real_cache),
        CUDA_HOME=str(kits.cuda),
    )


def _no_result_yet(pod: StartPod) -> None:
    shutil.rmtree(pod.environ["APEX_INSTALL_CACHE_DIR"], ignore_errors=True)


def _index_of_result(pod: StartPod) -> None:
    """What was compiled lies in an index, and nothing in the cache."""
    cache = Path(pod.environ["APEX_INSTALL_CACHE_DIR"])
    if not list(cache.glob("compiled/*.json")):
        pod.start()
        shutil.rmtree(pod.environ["APEX_INSTALL_TARGET"])
    (found,) = cache.glob("compiled/*.json")
    (wheel,) = cache.glob("wheels/*/*.whl")
    data = json.loads(found.read_text())
    entry = Entry.from_json({**data, "url": wheel.as_uri()}, where=str(found))
    cell = entry.cell.split("-")
    path = f"{cell[2]}/{cell[1]}"
    document = pod.tiny.index / path / Document.name_for(cell[0])
    document.parent.mkdir(parents=True)
    document.write_text(json.dumps(Document(path, cell[0], (entry,)).to_json()))
    pod.set(APEX_INSTALL_CACHE_DIR=str(pod.root / "cache"), APEX_INSTALL_COMPILE_TIMEOUT="0")


def _error_in_the_source(pod: StartPod) -> None:
    path = pod.root / "source/csrc/norm_kernels.cu"
    path.write_text(f"#error no such kernel\n{path.read_text()}")
    pod.set(APEX_INSTALL_CACHE_DIR=str(pod.root / "cache"))


REAL_COMPILER = (
    Fault("real compiler: no wheel", GROUP, _no_result_yet, "compiled", REAL, sample=True),
    Fault("real compiler: its wheel in an index", GROUP, _index_of_result, "wheel", REAL,
          sample=True),
    Fault("real compiler: an error in a .cu", GROUP, _error_in_the_source, "python-only", REAL,
          sample=True, said="no such kernel"),
)  # fmt: skip
