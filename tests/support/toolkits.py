"""A CUDA toolkit for the tests: one that is there, else composed from NVIDIA's wheels on PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.make.compose import complete_toolkit
from support.torch_environments import lock
from wheelbuild.data import load_data
from wheelbuild.engines.toolkit import find_or_fetch

if TYPE_CHECKING:
    from support.torch_environments import TorchEnvironment


def find_nvcc_home(cuda: str) -> Path | None:
    """A toolkit of exactly this CUDA on the machine: CUDA_HOME, PATH, /usr/local."""
    on_path = shutil.which("nvcc")
    candidates = [
        os.environ.get("CUDA_HOME"),
        os.environ.get("CUDA_PATH"),
        on_path and str(Path(on_path).resolve().parents[1]),
        f"/usr/local/cuda-{cuda}",
        "/usr/local/cuda",
    ]
    for home in filter(None, candidates):
        if nvcc_release(Path(home)) == cuda:
            return Path(home)
    return None


def nvcc_release(home: Path) -> str | None:
    """`13.0`, from `nvcc -V`; None where it does not run."""
    try:
        done = subprocess.run(
            [str(home / "bin/nvcc"), "-V"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"release (\d+\.\d+)", done.stdout)
    return found.group(1) if found else None


def find_or_compose_toolkit(cuda: str, *, torch: TorchEnvironment, cache: Path) -> Path:
    """The toolkit's home, with `bin/nvcc` in it; what is not here is made once, as a farm does."""
    found = find_nvcc_home(cuda)
    if found:
        return found
    folder = cache / "toolkits"
    fetched = find_or_fetch(cuda, toolkits=load_data().toolkits, folder=folder)
    torch_directory = str(torch.site_packages / "torch")
    into = folder / f"{cuda}-for-tests"
    with lock(into.with_name(f"{into.name}.lock")):
        made = complete_toolkit(fetched, torch_directory=torch_directory, into=str(into))
    return Path(made.home)
