"""The project that cibuildwheel copies into a container: a job folder, and its settings beside."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheelbuild.engines.jobfolder import REQUEST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from apex_installer.make.request import BuildRequest

SETTINGS = "cibuildwheel.toml"


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder that the container sees where it lies here."""

    path: Path
    writable: bool


def write_project(
    folder: Path,
    *,
    job: Path,
    request: BuildRequest,
    image: str,
    program: str,
    mounts: Sequence[Mount],
    create: Sequence[str],
) -> Path:
    """Write it anew, without the job's `work`, which is mounted; returns the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(job, folder, ignore=lambda at, _: ["work"] if at == str(job) else [])
    (folder / REQUEST).write_text(request.to_json(), encoding="utf-8")
    text = settings_text(image=image, program=program, mounts=mounts, create=create)
    (folder / SETTINGS).write_text(text, encoding="utf-8")
    return folder


def settings_text(
    *, image: str, program: str, mounts: Sequence[Mount], create: Sequence[str]
) -> str:
    """Cibuildwheel's settings. Pure; a string of JSON is one of TOML.

    Nothing is installed and nothing tested there: torch is mounted, and the farm's own steps
    repair the wheel and test it.
    """
    words = [*create, *(_volume(mount) for mount in mounts)]
    engine = f"name = {json.dumps(program)}, create-args = {json.dumps(words)}"
    front_end = '["--no-isolation", "--skip-dependency-check"]'
    return (
        "[tool.cibuildwheel]\n"
        f"manylinux-x86_64-image = {json.dumps(image)}\n"
        f"manylinux-aarch64-image = {json.dumps(image)}\n"
        f"container-engine = {{ {engine}, disable-host-mount = true }}\n"
        f'build-frontend = {{ name = "build", args = {front_end} }}\n'
        'repair-wheel-command = ""\n'
    )


def _volume(mount: Mount) -> str:
    return f"--volume={mount.path}:{mount.path}:{'rw' if mount.writable else 'ro'}"
