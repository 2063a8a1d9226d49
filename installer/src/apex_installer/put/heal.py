"""Is anything of a killed run to be healed? One listing answers, and costs no other import."""

from __future__ import annotations

import os
from typing import Optional

from apex_installer.put.workspace import DONE, MOVING, OLD, STAGE, Workspace, workspace_path


def heal(target: str) -> Optional[str]:
    """Finish or undo what a killed run left in the target; the line that says so, or None.

    Costs one listing where there is nothing to do. TargetError where it cannot be done.
    """
    try:
        names = os.listdir(workspace_path(target))
    except OSError:
        return None
    if not any(name in (MOVING, DONE) or name.startswith((STAGE, OLD)) for name in names):
        return None
    from apex_installer.put.recover import heal_locked  # noqa: PLC0415 - rarely come to

    with Workspace(target) as workspace:
        return heal_locked(workspace)
