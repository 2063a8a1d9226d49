"""Whether others may read a target: a volume that pods share, or a disk of this one's own."""

from __future__ import annotations

import os

from apex_installer.get.cache import file_system

_MEMORY_OR_IMAGE = ("overlay", "tmpfs", "ramfs", "devtmpfs")
"""What goes with the pod wherever it is mounted."""
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "gluster",
    "9p",
    "virtiofs",
    "afs",
    "wekafs",
    "fuse",
)
"""How the names of file systems begin that other machines may have too, for a root that is one."""


def why_shared(target: str) -> str:
    """Why others may read what is put there, in words; empty where it is surely this pod's own.

    A mount below the root counts as shared, whatever it is: a volume looks the same from inside
    whether one pod has it or a hundred. So does what cannot be told.
    """
    mount = os.path.realpath(target)
    while mount != "/" and not os.path.ismount(mount):
        mount = os.path.dirname(mount)
    kind = file_system(mount)
    own = kind in _MEMORY_OR_IMAGE or (mount == "/" and kind and not kind.startswith(_NETWORK))
    return "" if own else f"others may share {target} ({mount} is {kind or 'of unknown kind'})"
