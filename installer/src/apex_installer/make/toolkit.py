"""Find the CUDA toolkit that equals torch's, and say what it lacks.

Why equal, minor included: Apex's setup.py refuses anything else, and PTX made by a newer minor
does not run on a driver that is new enough for torch. Upstream: NVIDIA/apex#323.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from apex_installer.errors import ToolkitError
from apex_installer.make.process import ask

NEEDED = (
    "include/cuda_runtime.h",
    "include/crt/host_config.h",
    "include/cublas_v2.h",
    "include/cusparse.h",
    "include/cusolverDn.h",
    "lib64/libcudart.so",
)
"""What torch's own headers and every CUDA extension's link ask for."""

_RELEASE = re.compile(r"release (\d+\.\d+)")


@dataclass(frozen=True)
class Toolkit:
    """A CUDA_HOME with an nvcc of the asked release."""

    home: str
    version: str
    """`13.0`."""
    how: str
    """How it was found: `CUDA_HOME`, `nvcc on PATH`, `/usr/local/cuda-13.0`."""


@dataclass(frozen=True)
class Candidate:
    """A place where a toolkit may be."""

    home: str
    how: str


def list_candidates(
    cuda: str, *, environ: Mapping[str, str], extra: Sequence[str] = ()
) -> Tuple[Candidate, ...]:
    """Where to look: `extra`, CUDA_HOME, PATH, /usr/local/cuda-X.Y, /usr/local/cuda, conda."""
    found = [Candidate(home, "--toolkit") for home in extra]
    found += [
        Candidate(environ[name], name) for name in ("CUDA_HOME", "CUDA_PATH") if environ.get(name)
    ]
    nvcc = shutil.which("nvcc", path=environ.get("PATH", ""))
    if nvcc:
        found.append(Candidate(read_home(nvcc), "nvcc on PATH"))
    found += [Candidate(home, home) for home in (f"/usr/local/cuda-{cuda}", "/usr/local/cuda")]
    if environ.get("CONDA_PREFIX"):
        found.append(Candidate(environ["CONDA_PREFIX"], "conda"))
    first: Dict[str, Candidate] = {}
    for one in found:
        first.setdefault(os.path.abspath(one.home), one)
    return tuple(first.values())


def parse_top(dry_run: str) -> Optional[str]:
    """The toolkit's folder, from the words of `nvcc --dryrun`."""
    match = re.search(r"^#\$ TOP=(.+)$", dry_run, re.MULTILINE)
    return os.path.normpath(match.group(1)) if match else None


def read_home(nvcc: str) -> str:
    """The toolkit that an nvcc belongs to, which may be a link or a script that starts another."""
    words = [nvcc, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull]
    said = ask(words, environ=os.environ)
    return parse_top(said) or os.path.dirname(os.path.dirname(os.path.realpath(nvcc)))


def read_release(home: str) -> Optional[str]:
    """`13.0`, as the nvcc below `home` says; None where there is none that runs. About 10 ms."""
    nvcc = os.path.join(home, "bin", "nvcc")
    if not os.access(nvcc, os.X_OK):
        return None
    match = _RELEASE.search(ask([nvcc, "--version"], environ=os.environ))
    return match.group(1) if match else None


def find_toolkit(cuda: str, *, environ: Mapping[str, str], extra: Sequence[str] = ()) -> Toolkit:
    """The first of `list_candidates` whose release equals `cuda`, minor included.

    ToolkitError names every candidate and why it was refused.
    """
    return choose_toolkit(list_candidates(cuda, environ=environ, extra=extra), cuda=cuda)


def choose_toolkit(candidates: Sequence[Candidate], *, cuda: str) -> Toolkit:
    """The first candidate whose release equals `cuda`; ToolkitError says why none did."""
    found, refused = survey(candidates, cuda=cuda)
    if found is not None:
        return found
    raise ToolkitError(
        f"no CUDA toolkit equals torch's {cuda}: {'; '.join(refused)}; install cuda-nvcc-"
        f"{cuda.replace('.', '-')} or set CUDA_HOME to a {cuda} toolkit"
    )


def survey(
    candidates: Sequence[Candidate], *, cuda: str
) -> Tuple[Optional[Toolkit], Tuple[str, ...]]:
    """(the first candidate whose release equals `cuda`, why each one before it was refused)."""
    refused: List[str] = []
    for one in candidates:
        release = read_release(one.home)
        if release == cuda:
            home = _real_home(os.path.abspath(one.home))
            return Toolkit(home, release, one.how), tuple(refused)
        where = one.home if one.how == one.home else f"{one.how} ({one.home})"
        nothing = "has no bin/nvcc that runs" if os.path.isdir(one.home) else "is not there"
        refused.append(f"{where} {f'is CUDA {release}' if release else nothing}")
    return None, tuple(refused)


def _real_home(home: str) -> str:
    """`home`, or where its nvcc sends us: /usr/local/bin/nvcc may start the one of a toolkit."""
    if os.path.exists(os.path.join(home, "include", "crt", "host_config.h")):
        return home
    return read_home(os.path.join(home, "bin", "nvcc"))


def find_missing(home: str) -> Tuple[str, ...]:
    """Which of the needed headers and libraries `home` lacks."""
    return tuple(part for part in NEEDED if not os.path.exists(os.path.join(home, part)))


def gcc_limit(host_config: str) -> Optional[int]:
    """Highest major version of gcc that this nvcc takes, from the text of crt/host_config.h."""
    match = re.search(r"^#\s*if __GNUC__ > (\d+)", host_config, re.MULTILINE)
    return int(match.group(1)) if match else None


def read_gcc_limit(home: str) -> Optional[int]:
    """The limit of the nvcc below `home`; None where its header cannot be read or names none."""
    path = os.path.join(home, "include", "crt", "host_config.h")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return gcc_limit(file.read())
    except OSError:
        return None
