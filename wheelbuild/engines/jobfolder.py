"""The job folder: all that one build reads, so that any PEP 517 front end can run it anywhere.

pyproject.toml   our backend by `backend-path`, nothing to install
job.json         the request
backend/         the thin part
src/             the ref's source, unchanged
work/            modules, timings and logs of earlier builds, and of this one
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from wheelbuild.source import copy_source

if TYPE_CHECKING:
    from apex_installer.make.request import BuildRequest
    from wheelbuild.source import Source

REQUEST = "job.json"

_PYPROJECT = """\
[build-system]
requires = []
build-backend = "apex_installer.make.backend"
backend-path = ["backend"]
"""


def write_job_folder(folder: Path, *, request: BuildRequest, source: Source) -> None:
    """Write it anew, but keep `work/`: what did not change is not compiled again."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_source(source, into=folder / "src")
    backend = folder / "backend"
    shutil.rmtree(backend, ignore_errors=True)
    with resources.as_file(resources.files("apex_installer")) as package:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, backend / "apex_installer", ignore=ignored)
    (folder / REQUEST).write_text(request.to_json(), encoding="utf-8")
    (folder / "pyproject.toml").write_text(_PYPROJECT, encoding="utf-8")
