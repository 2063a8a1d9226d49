"""Faults of a toolkit that has to be fetched: half of it, other bytes, another release."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from typing import TYPE_CHECKING

from support.fake_build import NVCC, make, write_nvcc
from support.fault import BUILDING, Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.start_pod import StartPod

GROUP = "processes"
FILE = "cuda_nvcc/linux-x86_64/cuda_nvcc-archive.tar.gz"
DEGRADED = "apex: python-only, DEGRADED"


def _offered(pod: StartPod, *, outside: bool = False) -> Path:
    """The pod's toolkit is on a mirror, as one pinned archive, and no more on the pod."""
    archive = pod.root / "mirror" / FILE
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(pod.root / "cuda", "cuda_nvcc-archive")
        if outside:
            member = tarfile.TarInfo("cuda_nvcc-archive/../../outside")
            member.size = 1
            packed.addfile(member, io.BytesIO(b"x"))
    shutil.rmtree(pod.root / "cuda")
    content = archive.read_bytes()
    part = {
        "name": "cuda_nvcc",
        "version": "13.0.88",
        "file": FILE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    mirror = f"{(pod.root / 'mirror').as_uri()}/"
    toolkit = {"release": "13.0.2", "how": "archives", "base_url": mirror, "gcc_max": 15}
    pins = {"schema": 1, "toolkits": {"13.0": {**toolkit, "parts": [part]}}}
    (pod.root / "pins.json").write_text(json.dumps(pins))
    del pod.environ["CUDA_HOME"], pod.environ["APEX_INSTALL_CUDA_MIRROR"]
    pod.set(APEX_INSTALL_TOOLKITS=str(pod.root / "pins.json"), APEX_INSTALL_TOOLKIT="archive")
    return archive


def _half_cached(pod: StartPod) -> Path:
    """What a killed download left, and beside it a whole one that was damaged since."""
    archive = _offered(pod)
    content = archive.read_bytes()
    name = hashlib.sha256(content).hexdigest()
    files = pod.cache / "apex-install/files"
    (files / name).mkdir(parents=True)
    (files / f"{name}.part").write_bytes(content[: len(content) // 2])
    (files / name / archive.name).write_bytes(b"damaged" + content[7:])
    return archive


def _mirror_gone(pod: StartPod) -> None:
    _half_cached(pod).unlink()


def _other_bytes(pod: StartPod) -> None:
    archive = _offered(pod)
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")


def _other_release(pod: StartPod) -> None:
    write_nvcc(pod, make(pod), says=NVCC.replace("13.0", "12.8"))
    _offered(pod)


def _leads_outside(pod: StartPod) -> None:
    _offered(pod, outside=True)


def _pins(text: str) -> Callable[[StartPod], object]:
    def spoil(pod: StartPod) -> None:
        _offered(pod)
        (pod.root / "pins.json").write_text(text)

    return spoil


TOOLKITS = (
    Fault("none, and the toolkit comes from a mirror", GROUP, _offered, "compiled", BUILDING),
    Fault("half a toolkit in the cache", GROUP, _half_cached, "compiled", BUILDING, sample=True),
    Fault("half a toolkit in the cache, and its mirror gone", GROUP, _mirror_gone, "python-only",
          BUILDING, sample=True, said=DEGRADED),
    Fault("a toolkit of other bytes than pinned", GROUP, _other_bytes, "python-only", BUILDING,
          said="sha256 is"),
    Fault("a toolkit that says another CUDA", GROUP, _other_release, "python-only", BUILDING,
          said="its nvcc says 12.8, not 13.0"),
    Fault("a toolkit whose archive leads outside", GROUP, _leads_outside, "python-only", BUILDING,
          said="leads outside"),
    Fault("pins that are garbage", GROUP, _pins("{"), "none", BUILDING, said="usage: --toolkits"),
)  # fmt: skip
