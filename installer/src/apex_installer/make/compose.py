"""Compose a CUDA_HOME: an nvcc from here, headers and libraries from torch's own wheels.

torch's wheels bring the headers of cuBLAS, cuSPARSE and the rest below `nvidia/`, and libraries
with versioned names only. A toolkit that is nvcc alone becomes whole by links to those.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Dict, List, Sequence, Tuple

from apex_installer.errors import ToolkitError
from apex_installer.make.toolkit import Toolkit, find_missing

MADE_OF = "made-of.json"
_BUNDLED = re.compile(
    r"^lib(cudart|cublas|cublasLt|cusparse|cusolver|curand|nvrtc|cudnn|nccl)(?:-[0-9a-f]+)?\.so"
)
_VERSIONED = re.compile(r"^(lib.+\.so)\.\d+$")


def nvidia_folders(torch_directory: str) -> Tuple[str, ...]:
    """The folders with `include` and `lib` that torch's CUDA wheels brought, beside torch.

    CUDA 13 has one (`nvidia/cu13`) and a few apart (`nvidia/cudnn`), CUDA 12 one per library.
    """
    root = os.path.join(os.path.dirname(torch_directory), "nvidia")
    names = sorted(os.listdir(root)) if os.path.isdir(root) else []
    return tuple(
        os.path.join(root, name)
        for name in names
        if os.path.isdir(os.path.join(root, name, "include"))
        or os.path.isdir(os.path.join(root, name, "lib"))
    )


def toolkit_folders(home: str, *, torch_directory: str) -> Tuple[str, ...]:
    """Whose `bin`, `include`, `nvvm` and `lib` make a toolkit: its own first, then torch's.

    conda keeps headers below `targets`, beside its nvcc.
    """
    targets = os.path.join(home, "targets", "x86_64-linux")
    own = [home, *([targets] if os.path.isdir(targets) else [])]
    return (*own, *nvidia_folders(torch_directory))


def link_bundled_libraries(torch_directory: str, *, into: str) -> Tuple[str, ...]:
    """The CUDA libraries that lie inside torch's own wheel, as a folder to compose from, or none.

    Some bear a hash in their names: `libcudart-d0da41ae.so.11.0` is what `-lcudart` means.
    """
    library = os.path.join(torch_directory, "lib")
    found: Dict[str, str] = {}
    for name in sorted(os.listdir(library)) if os.path.isdir(library) else []:
        match = _BUNDLED.match(name)
        if match:
            found.setdefault(f"lib{match.group(1)}.so", os.path.join(library, name))
    if not found:
        return ()
    folder = os.path.join(into, "lib64")
    os.makedirs(folder)
    for name, path in found.items():
        os.symlink(path, os.path.join(folder, name))
    return (into,)


def complete_toolkit(toolkit: Toolkit, *, torch_directory: str, into: str) -> Toolkit:
    """The toolkit as it is if nothing is missing, else one of links in `into` that is whole.

    ToolkitError names what neither it nor torch's wheels have.
    """
    if not find_missing(toolkit.home):
        return toolkit
    folders = list(toolkit_folders(toolkit.home, torch_directory=torch_directory))
    # Another build may be compiling with it: only laid anew where it would differ.
    if _made_of(into) != folders or find_missing(into):
        lay_links(folders, into=into)
    check_whole(into, toolkit.how)
    return Toolkit(into, toolkit.version, f"{toolkit.how}, completed with torch's headers")


def check_whole(home: str, name: str) -> None:
    """ToolkitError names every needed file that is missing."""
    missing = find_missing(home)
    if missing:
        raise ToolkitError(
            f"{name} lacks {', '.join(missing)}, and torch's own wheels do not have it; install "
            "the -dev packages of that CUDA release"
        )


def lay_links(folders: Sequence[str], *, into: str) -> None:
    """Make one CUDA_HOME of links; where two folders hold the same name the first one wins."""
    fresh = f"{into}.new-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    os.makedirs(fresh)
    for name in ("bin", "nvvm", "include"):
        _merge([os.path.join(one, name) for one in folders], into=os.path.join(fresh, name))
    libraries = [os.path.join(one, name) for one in folders for name in ("lib64", "lib")]
    _merge(_without_twins(libraries), into=os.path.join(fresh, "lib64"))
    os.symlink("lib64", os.path.join(fresh, "lib"))
    _name_without_version(os.path.join(fresh, "lib64"))
    with open(os.path.join(fresh, MADE_OF), "w", encoding="utf-8") as file:
        json.dump(list(folders), file)
    shutil.rmtree(into, ignore_errors=True)
    os.replace(fresh, into)


def _made_of(home: str) -> List[str]:
    """The folders that links were laid to, or none."""
    try:
        with open(os.path.join(home, MADE_OF), encoding="utf-8") as file:
            return list(json.load(file))
    except (OSError, ValueError):
        return []


def _without_twins(folders: Sequence[str]) -> List[str]:
    """Leave out what is the same folder by another name (`lib64 -> lib`)."""
    return list({os.path.realpath(one): one for one in reversed(folders)}.values())[::-1]


def _merge(folders: Sequence[str], *, into: str) -> None:
    """Link every name of the folders; a folder that several have becomes a folder of links."""
    holders: Dict[str, List[str]] = {}
    for folder in folders:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            holders.setdefault(name, []).append(os.path.join(folder, name))
    os.makedirs(into, exist_ok=True)
    for name, paths in holders.items():
        target = os.path.join(into, name)
        if len(paths) > 1 and all(os.path.isdir(path) for path in paths):
            _merge(paths, into=target)
        else:
            os.symlink(os.path.realpath(paths[0]), target)


def _name_without_version(folder: str) -> None:
    """`libcudart.so -> libcudart.so.13`: wheels have only the name that programs load."""
    for name in sorted(os.listdir(folder)):
        match = _VERSIONED.match(name)
        if match and not os.path.lexists(os.path.join(folder, match.group(1))):
            os.symlink(name, os.path.join(folder, match.group(1)))
