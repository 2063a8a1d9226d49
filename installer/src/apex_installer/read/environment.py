"""The whole environment in one call, from the readers beside this file."""

from __future__ import annotations

import os
from typing import Mapping, Optional

from apex_installer.model.arch import Version, parse_version
from apex_installer.model.environment import Environment
from apex_installer.model.request import Request
from apex_installer.read.devices import read_devices
from apex_installer.read.interpreter import find_interpreter
from apex_installer.read.torch_files import read_torch
from apex_installer.threads import Later


def read_environment(request: Request, *, environ: Mapping[str, str]) -> Environment:
    """Read interpreter, torch, GPUs and driver; NoTorchError or UsageError say what is wrong."""
    # The driver answers in 20 ms in which Python is free to do the rest.
    devices = Later(lambda: read_devices(environ=environ, gpu=request.gpu))
    interpreter, torch_directory = find_interpreter(
        python=request.python, app=request.app, environ=environ
    )
    target = request.target or os.path.dirname(torch_directory)
    return Environment(
        interpreter=interpreter,
        torch=read_torch(torch_directory),
        devices=devices.take(),
        target=os.path.abspath(target),
        glibc=read_glibc(),
    )


def read_glibc() -> Optional[Version]:
    """(2, 36), or None on another C library (musl)."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):
        return None
    return parse_version(version) if name == "glibc" else None
