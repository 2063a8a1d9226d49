"""A manylinux image without a byte to pull: a megabyte of links, and this machine's /usr mounted.

    with skeleton_image(folder, podman="podman", pythons={"cp311": "/…/bin/python3.11"}) as image:
        # `image.environ` makes plain `podman` see the mounts, and a storage of its own

It has what cibuildwheel asks for: `/opt/python/cp311-cp311/bin/{python,pip}`, and a Python behind
`cp39-cp39`, which it starts for its own errands. No isolation from this machine is meant.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME = "localhost/wheelbuild-tests:skeleton"
FOLDERS = ("tmp", "proc", "sys", "dev", "run", "root", "opt/python", "etc", "usr", "var/tmp")
MERGED = ("bin", "sbin", "lib", "lib64")
"""Links into /usr, as every current distribution has them."""
ETC = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "alternatives", "ssl")
_BASE = "import os, sys; print(os.path.realpath(sys.executable), sys.base_prefix, sep='\\n')"


@dataclass(frozen=True)
class Skeleton:
    """The image and what `podman` has to be told."""

    name: str
    environ: Mapping[str, str]


@contextmanager
def skeleton_image(folder: Path, *, podman: str, pythons: Mapping[str, str]) -> Iterator[Skeleton]:
    """An image in a storage of its own below `folder`; no container is left at the end."""
    tree = folder / "tree"
    for name in FOLDERS:
        (tree / name).mkdir(parents=True)
    for name in MERGED:
        (tree / name).symlink_to(f"usr/{name}")
    for name in ETC:
        _copy(Path("/etc") / name, tree / "etc" / name)
    bases = {tag: _find_base(python) for tag, python in pythons.items()}
    for tag, (python, prefix) in {**bases, "cp39": next(iter(bases.values()))}.items():
        _link_python(tree / "opt/python" / f"{tag}-{tag}", python, prefix)
    conf = _write_conf(folder, prefixes={prefix for _, prefix in bases.values()})
    environ = {**os.environ, "CONTAINERS_CONF": str(conf), **_storage(folder)}
    archive = folder / "image.tar"
    with tarfile.open(archive, "w") as file:
        file.add(tree, arcname=".")
    change = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8"
    words = [podman, "import", "--change", change, "--change", 'CMD ["/bin/bash"]', archive, NAME]
    subprocess.run(words, env=environ, check=True, capture_output=True, timeout=120)
    try:
        yield Skeleton(NAME, environ)
    finally:
        for words in (["rm", "--all", "--force"], ["rmi", "--all", "--force"]):
            subprocess.run([podman, *words], env=environ, check=False, capture_output=True)


def _storage(folder: Path) -> dict[str, str]:
    """A storage that is this test's alone."""
    conf = folder / "storage.conf"
    conf.write_text(
        f'[storage]\ndriver = "vfs"\n'
        f'graphroot = "{folder / "graph"}"\nrunroot = "{folder / "run"}"\n'
    )
    return {"CONTAINERS_STORAGE_CONF": str(conf)}


def _write_conf(folder: Path, *, prefixes: set[Path]) -> Path:
    """What podman needs where root lacks CAP_SYS_RESOURCE and cgroups are hybrid: runc, low limits.

    Pythons that are not below /usr are mounted too; nothing of them is written to.
    """
    apart = [path for path in sorted(prefixes) if not path.is_relative_to("/usr")]
    volumes = ["/usr:/usr:ro", *(f"{path}:{path}:ro" for path in apart)]
    words = ", ".join(f'"{volume}"' for volume in volumes)
    conf = folder / "containers.conf"
    conf.write_text(
        '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n'
        f'netns = "host"\nvolumes = [{words}]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    return conf


def _find_base(python: str) -> tuple[Path, Path]:
    """The program itself and its prefix; `python` may be that of a virtual environment."""
    done = subprocess.run([python, "-c", _BASE], check=True, capture_output=True, text=True)
    program, prefix = done.stdout.splitlines()
    return Path(program), Path(prefix).resolve()


def _link_python(folder: Path, python: Path, prefix: Path) -> None:
    """A link to the prefix, as real images have it; `/usr/bin` may lack the plain names."""
    if all((prefix / "bin" / name).exists() for name in ("python", "pip")):
        folder.symlink_to(prefix)
        return
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(python)
    pip = folder / "bin/pip"
    pip.write_text('#!/bin/sh\nexec "${0%/*}/python" -m pip "$@"\n')
    pip.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore_dangling_symlinks=True)
    elif source.exists():
        shutil.copy(source, target)
