"""PEP 517 hooks for a job folder: `pyproject.toml` (this by backend-path), `job.json`, `src/`.

    [build-system]
    requires = []
    build-backend = "apex_installer.make.backend"
    backend-path = ["backend"]

A front end calls the hooks in the job folder, by the target's interpreter.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, List, Mapping, Optional

from apex_installer.errors import InstallError, UsageError
from apex_installer.make.build import build_wheel as build
from apex_installer.make.request import BuildRequest

REQUEST = "job.json"
LOG = "build.log"
"""In the request's work folder."""
ERROR = "error.txt"
"""In job folder and work folder: why the last build failed; a front end passes on no words."""

_PR_SET_PDEATHSIG = 1


def get_requires_for_build_wheel(config_settings: Optional[Mapping[str, Any]] = None) -> List[str]:
    """Nothing: the environment holds the torch that is built against, and its setuptools."""
    del config_settings
    return []


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[Mapping[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """Build the wheel of `job.json` in the current folder; its file name.

    `jobs` of config_settings overrules the width: `python -m build -C jobs=4`.
    """
    del metadata_directory
    _end_with_parent()
    folder = os.getcwd()
    works: List[str] = []
    try:
        request = _read_request(folder, config_settings or {})
        # A container's job folder is gone with it; the work folder is not.
        os.makedirs(request.work, exist_ok=True)
        works.append(request.work)
        log = os.path.join(request.work, LOG)
        built = build(request, out=wheel_directory, log=log)
    except InstallError as error:
        # The front end shows a traceback of any exception; one line is what a person can use.
        sys.stderr.write(f"{error.cause}: {error}\n")
        sys.stderr.flush()
        for place in (folder, *works):
            with open(os.path.join(place, ERROR), "w", encoding="utf-8") as file:
                file.write(f"{error.cause}: {error}\n")
        raise SystemExit(error.exit_code) from None
    return os.path.basename(built.wheel)


def _read_request(folder: str, settings: Mapping[str, Any]) -> BuildRequest:
    path = os.path.join(folder, REQUEST)
    if not os.path.exists(path):
        raise UsageError(f"{path}: missing; the job folder is written by `wheelbuild build`")
    with open(path, encoding="utf-8") as file:
        request = BuildRequest.from_json(file.read(), folder=folder)
    jobs = settings.get("jobs")
    if jobs is None:
        return request
    if not str(jobs).isdigit() or int(jobs) < 1:
        raise UsageError(f"jobs={jobs}: a whole number from 1 on is needed")
    return request.with_jobs(int(jobs))


def _end_with_parent() -> None:
    """Get a SIGTERM when the front end is killed, so that no compiler outlives it (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
