"""What of a pod is in the way of any Apex, with the command that mends it; None for nothing."""

from __future__ import annotations

import os
from typing import Optional

from apex_installer.model.arch import version_text
from apex_installer.model.environment import Environment


def driver_obstacle(environment: Environment) -> Optional[str]:
    """A driver runs every CUDA of its own major and older ones (NVIDIA, CUDA Compatibility)."""
    runs, cuda = environment.devices.driver_cuda, environment.torch.cuda
    if runs is None or cuda is None or runs[0] >= int(cuda.split(".")[0]):
        return None
    return (
        f"driver {environment.devices.driver or 'here'} runs CUDA up to {version_text(runs)}, "
        f"torch {environment.torch.version} has {cuda}: update the driver, or install a torch for "
        f"CUDA {runs[0]}"
    )


def target_obstacle(target: str) -> Optional[str]:
    """A folder that cannot be written by who runs us."""
    if not os.path.isdir(target):
        return f"{target} is no folder: mkdir -p {target}, or say --target DIR"
    if os.access(target, os.W_OK | os.X_OK):
        return None
    if os.statvfs(target).f_flag & os.ST_RDONLY:
        return f"{target} is on a read-only file system: say --target DIR on another one"
    owner, own = os.stat(target).st_uid, os.getuid()
    if owner == own:
        return f"{target} cannot be written: chmod u+wx {target}"
    return (
        f"{target} belongs to uid {owner} and cannot be written by uid {own}: run as its owner, or "
        "say --target DIR"
    )
