"""Environments that hold a real torch, each downloaded once and shared by all tests and runs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILD_REQUIREMENTS = ("setuptools>=77", "wheel", "ninja", "packaging", "numpy", "build")
"""What `setup.py` of a torch extension imports, and what calls it."""

_CLOSURE = """
import importlib.metadata as metadata, json, re, sys
def name_of(text): return re.match(r"[A-Za-z0-9._-]+", text).group().lower().replace("_", "-")
found, queue = {}, ["torch"]
while queue:
    name = queue.pop()
    if name in found: continue
    try: distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError: continue
    found[name] = [str(file) for file in distribution.files or ()]
    requires = [r for r in distribution.requires or () if "extra ==" not in r]
    if name == "cuda-toolkit": requires = distribution.requires or ()
    queue += [name_of(r) for r in requires]
site = str(metadata.distribution("torch").locate_file(""))
print(json.dumps({"site": site, "files": sorted({f for files in found.values() for f in files})}))
"""


@dataclass(frozen=True)
class TorchEnvironment:
    """An interpreter with torch; read-only, since all tests share it."""

    version: str
    python: Path
    """Interpreter of an environment that holds torch, what it depends on, and maybe more."""
    site_packages: Path
    build_python: Path
    """Interpreter of an environment that sees the same torch and can run a `setup.py`."""

    def throwaway(self, directory: Path) -> Path:
        """A new environment for one test: only torch and its dependencies, nothing downloaded.

        Files are linked, not copied; pip and uv replace files and never write into them. Returns
        its interpreter. About a second.
        """
        python = make_venv(directory, python=self.python)
        closure = json.loads(_run(str(self.python), "-c", _CLOSURE))
        link_files(closure["files"], source=Path(closure["site"]), target=site_packages_of(python))
        return python


def torch_environment(version: str, *, cache: Path) -> TorchEnvironment:
    """Find or make the environment; another test run that makes it at once is waited for.

    `WHEELBUILD_TEST_TORCH_211=/path/to/python` names one that is there already.
    """
    minor = "".join(version.split(".")[:2])
    given = os.environ.get(f"WHEELBUILD_TEST_TORCH_{minor}")
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folder = cache / "test-environments" / f"torch-{version}-{tag}"
    if given:
        python = Path(given).absolute()
        folder = folder.with_name(f"{folder.name}-given")
    else:
        python = made_once(folder, (f"torch=={version}",))
    site_packages = Path(
        _run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    )
    return TorchEnvironment(
        version=version,
        python=python,
        site_packages=site_packages,
        build_python=made_once(
            folder.with_name(f"{folder.name}-build"),
            BUILD_REQUIREMENTS,
            base=python,
            sees=site_packages,
        ),
    )


def further_environment(first: TorchEnvironment, *, minor: str, python: str, cache: Path) -> Path:
    """The same torch for another Python, `minor` as `3.12`; an interpreter that can run setup.py.

    torch's own wheel is downloaded (530 MB); NVIDIA's, which serve every Python, are linked.
    """
    name = f"torch-{first.version}-cp{minor.replace('.', '')}-further"
    wheel = ("--no-deps", f"torch=={first.version}")
    torch = made_once(cache / "test-environments" / name, wheel, base=Path(python))
    site_packages = site_packages_of(torch)
    with lock(cache / "test-environments" / f"{name}-nvidia.lock"):
        if not (site_packages / "nvidia").exists():
            part = site_packages / "nvidia.part"
            shutil.rmtree(part, ignore_errors=True)
            source = first.site_packages / "nvidia"
            files = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
            link_files(files, source=source, target=part)
            part.rename(site_packages / "nvidia")
    pure = ("filelock", "fsspec", "jinja2", "networkx", "sympy", "typing_extensions")
    return made_once(
        cache / "test-environments" / f"{name}-build",
        (*BUILD_REQUIREMENTS, *pure),
        base=torch,
        sees=site_packages,
    )


def made_once(
    folder: Path,
    requirements: tuple[str, ...],
    *,
    base: Path | None = None,
    sees: Path | None = None,
) -> Path:
    """An environment with these requirements; its interpreter. A half-made one is made anew."""
    stamp = folder / "complete"
    wanted = json.dumps([requirements, str(base), str(sees)])
    with lock(folder.with_name(f"{folder.name}.lock")):
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            return folder / "bin/python"
        shutil.rmtree(folder, ignore_errors=True)
        python = make_venv(folder, python=base or Path(sys.executable), pip=True)
        if sees:
            (site_packages_of(python) / "torch-of-the-tests.pth").write_text(
                f"{sees}\n", encoding="utf-8"
            )
        # No cache: these gigabytes would lie on the disk twice.
        _run(str(python), "-m", "pip", "install", "--no-cache-dir", "--quiet", *requirements)
        stamp.write_text(wanted, encoding="utf-8")
        return python


def make_venv(directory: Path, *, python: Path, pip: bool = False) -> Path:
    """An empty virtual environment; its interpreter."""
    _run(str(python), "-m", "venv", *([] if pip else ["--without-pip"]), str(directory))
    return directory / "bin/python"


def site_packages_of(python: Path) -> Path:
    """Where packages go in a virtual environment (Linux)."""
    (found,) = python.parents[1].glob("lib/python3*/site-packages")
    return found


def link_files(files: list[str], *, source: Path, target: Path) -> None:
    """Hard links where both lie on one file system, else symbolic ones."""
    for name in files:
        if name.startswith("..") or "__pycache__" in name or not (source / name).is_file():
            continue
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link((source / name).resolve(), place)
        except OSError:
            place.symlink_to(source / name)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Held by one process of this machine at a time; the kernel lets go when it dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()
