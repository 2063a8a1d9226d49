"""Faults of file systems: the target's, the cache's, the temporary directory's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from support.fault import BUILDING, CARRYING, NO_REPORT, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.start_pod import StartPod

DISK, CACHE = "disk", "cache"
MOUNTS = ("unshare", "mount")


def _mounted(where: str, options: str) -> Callable[[StartPod], object]:
    """A file system of its own at a folder of the pod; `where` is a variable or a path below."""

    def spoil(pod: StartPod) -> None:
        place = pod.environ.get(where) or str(pod.root / where)
        Path(place).mkdir(parents=True, exist_ok=True)
        pod.in_namespace(f'mount -t tmpfs -o {options} none "{place}"')

    return spoil


def _target(options: str) -> Callable[[StartPod], object]:
    def spoil(pod: StartPod) -> None:
        pod.set(APEX_INSTALL_TARGET=str(pod.root / "mounted"))
        _mounted("mounted", options)(pod)

    return spoil


def _read_only_site(pod: StartPod) -> None:
    """The image's own site-packages cannot be written, as with `readOnlyRootFilesystem`."""
    site = pod.target
    pod.in_namespace(f'mount --bind "{site}" "{site}"\nmount -o remount,bind,ro "{site}"')


def _injected(calls: str, how: str, *, only: str = "") -> Callable[[StartPod], object]:
    """strace has these system calls of the installer fail."""

    def spoil(pod: StartPod) -> None:
        strace = shutil.which("strace")
        assert strace
        places = ["-P", only.format(wheel=pod.tiny.served(pod.wheel), target=pod.target)]
        pod.wrap_python(
            *(strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"),
            *("-e", f"inject={calls}:{how}", *(places if only else [])),
        )

    return spoil


def _limited(pod: StartPod) -> None:
    """RLIMIT_FSIZE: a file of more than 512 bytes cannot be written (EFBIG)."""
    pod.write_tool("python3", f'ulimit -f 1\nexec "{pod.tiny.python}" "$@"')
    pod.set(APEX_INSTALL_PYTHON=str(pod.tiny.python))


def _cached(pod: StartPod) -> Path:
    """The wheel in the cache of a pod that has lost its Apex since."""
    pod.start()
    (cached,) = pod.cache.rglob("*.whl")
    shutil.rmtree(pod.target / "apex")
    cached.chmod(0o644)
    return cached


def _damaged(pod: StartPod) -> None:
    cached = _cached(pod)
    cached.write_bytes(b"damaged" + cached.read_bytes()[7:])


def _truncated(pod: StartPod) -> None:
    cached = _cached(pod)
    cached.write_bytes(cached.read_bytes()[:-9])


def _is_a_folder(pod: StartPod) -> None:
    cached = _cached(pod)
    cached.unlink()
    cached.mkdir()


def _world_writable(pod: StartPod) -> None:
    _cached(pod)
    for folder in (pod.cache, *pod.cache.rglob("*")):
        folder.chmod(0o777)


def _of_another(pod: StartPod) -> None:
    import os  # noqa: PLC0415 - to change owners, as root

    cached = _cached(pod)
    if os.geteuid() == 0:
        for path in (cached.parent, cached):
            os.chown(path, 12345, 12345)


def _link_elsewhere(pod: StartPod) -> None:
    """The cache is a link into a folder that is gone."""
    (pod.cache / "apex-install").symlink_to(pod.root / "vanished/volume")


FAULTS_OF_DISKS = (
    Fault("target full", DISK, _target("size=4k"), "none", CARRYING, sample=True, needs=MOUNTS),
    Fault("target read-only", DISK, _target("ro"), "none", needs=MOUNTS, sample=True,
          said="apex: none (target: "),
    Fault("site-packages read-only", DISK, _read_only_site, "none", CARRYING, needs=MOUNTS),
    Fault("target has no inodes", DISK, _target("size=1m,nr_inodes=4"), "none", needs=MOUNTS),
    Fault("target cannot be made", DISK,
          lambda pod: pod.set(APEX_INSTALL_TARGET="/dev/null/here"), "none", CARRYING),
    Fault("TMPDIR full", DISK, _mounted("TMPDIR", "size=4k"), ("wheel", NO_REPORT), CARRYING,
          sample=True, needs=MOUNTS),
    Fault("TMPDIR read-only", DISK, _mounted("TMPDIR", "ro"), NO_REPORT, CARRYING, needs=MOUNTS,
          said="apex: wheel, "),
    Fault("TMPDIR full in a compile", DISK, _mounted("TMPDIR", "size=16k"),
          ("python-only", NO_REPORT), BUILDING, needs=MOUNTS, said="apex: python-only, DEGRADED"),
    Fault("EIO on every write", DISK, _injected("write", "error=EIO"), NO_REPORT,
          needs=("strace",)),
    Fault("EIO on writes from the tenth on", DISK, _injected("write", "error=EIO:when=10+"),
          ("none", NO_REPORT), needs=("strace",)),
    Fault("EIO on fsync", DISK, _injected("fsync,fdatasync", "error=EIO"), ("none", "wheel"),
          CARRYING, needs=("strace",), sample=True),
    Fault("EIO on rename", DISK, _injected("rename,renameat,renameat2", "error=EIO"), NO_REPORT,
          CARRYING, needs=("strace",), said="apex: none (target: "),
    Fault("EIO on reading the wheel", DISK,
          _injected("read,pread64", "error=EIO", only="{wheel}"), "python-only", CARRYING,
          needs=("strace",)),
    Fault("EIO on reads from the 60th on", DISK, _injected("read", "error=EIO:when=60+"),
          ("none", "python-only", NO_REPORT), CARRYING, needs=("strace",)),
    Fault("ENOSPC on mkdir", DISK, _injected("mkdir", "error=ENOSPC"), "none", CARRYING,
          needs=("strace",)),
    Fault("no file may be larger than 512 bytes", DISK, _limited, ("none", NO_REPORT)),
    Fault("corrupt wheel", CACHE, _damaged, "wheel", sample=True),
    Fault("truncated wheel", CACHE, _truncated, "wheel"),
    Fault("wheel of no bytes", CACHE, lambda pod: _cached(pod).write_bytes(b""), "wheel"),
    Fault("a folder in place of the wheel", CACHE, _is_a_folder, ("wheel", "python-only"),
          CARRYING),
    Fault("writable by all", CACHE, _world_writable, "wheel"),
    Fault("another user's", CACHE, _of_another, "wheel"),
    Fault("is a file", CACHE, lambda pod: pod.set(APEX_INSTALL_CACHE_DIR="/dev/null"), "wheel"),
    Fault("leads nowhere", CACHE, _link_elsewhere, "wheel"),
    Fault("read-only", CACHE, _mounted("XDG_CACHE_HOME", "ro"), "wheel", needs=MOUNTS,
          sample=True),
    Fault("full", CACHE, _mounted("XDG_CACHE_HOME", "size=4k"), "wheel", needs=MOUNTS, sample=True),
    Fault("without inodes", CACHE, _mounted("XDG_CACHE_HOME", "size=1m,nr_inodes=3"),
          "wheel", needs=MOUNTS),
)  # fmt: skip
