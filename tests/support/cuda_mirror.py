"""A mirror in NVIDIA's layout: CUDA 12.4 from Debian's packages and NVIDIA's wheels, made here.

    <folder>/redist/cuda_nvcc/linux-x86_64/cuda_nvcc-linux-x86_64-12.4.131-archive.tar.xz …
    <folder>/toolkits.json        our pins, with those archives' sizes and sha256 for 12.4

NVIDIA's own archives cannot be had everywhere where PyPI and Debian can; these hold the same
programs in the same places. Made once and kept, since xz takes half a minute.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.make.unpack import unpack_wheel
from support.torch_environments import lock
from wheelbuild.data import load_data
from wheelbuild.thin_json import toolkits_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CUDA, RELEASE = "12.4", "12.4.1"
DEBS = ("nvidia-cuda-toolkit", "libcu++-dev", "libcub-dev", "libthrust-dev")
"""Of Debian 13, whose compiler is 12.4.131; the first lies in non-free."""
WHEELS = (
    "nvidia-cuda-nvcc-cu12==12.4.131",
    "nvidia-cuda-runtime-cu12==12.4.127",
    "nvidia-cuda-profiler-api-cu12==12.4.127",
    "nvidia-nvtx-cu12==12.4.127",
)
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PROFILE = """\
TOP                = $(_HERE_)/..
CICC_PATH          = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH              += $(CICC_PATH):$(_HERE_):
INCLUDES          += "-I$(TOP)/include" $(_SPACE_)
LIBRARIES         =+ $(_SPACE_) "-L$(TOP)/lib64/stubs" "-L$(TOP)/lib64"
"""
"""nvcc finds its parts by this file, which Debian's package points elsewhere."""


def cuda_mirror(cache: Path) -> Path:
    """The folder; skipped where apt cannot bring Debian's packages."""
    folder = cache / "toolkits" / f"mirror-{RELEASE}"
    with lock(folder.with_name(f"{folder.name}.lock")):
        if not (folder / "complete").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _make(folder)
            (folder / "complete").touch()
        _write_pins(folder)
    return folder


def _make(folder: Path) -> None:
    raw = folder / "raw"
    debs, wheels = raw / "debs", raw / "wheels"
    _unpack_debs(_download_debs(raw), into=debs)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    _run([*pip, "--only-binary", ":all:", "-d", str(raw), *WHEELS])
    for wheel in raw.glob("*.whl"):
        unpack_wheel(str(wheel), into=str(wheels))
    nvidia = wheels / "nvidia"
    _archive(folder, "cuda_nvcc", "12.4.131", _nvcc(debs, nvidia / "cuda_nvcc"))
    runtime = nvidia / "cuda_runtime"
    _archive(
        folder,
        "cuda_cudart",
        "12.4.127",
        {"include": runtime / "include", "lib": runtime / "lib"},
        links={"lib/libcudart.so": "libcudart.so.12"},
    )
    include = debs / "usr/include"
    cccl = {f"include/{one}": include / one for one in ("cub", "thrust", "cuda", "nv")}
    _archive(folder, "cuda_cccl", "12.4.127", cccl)
    for name, part in (("cuda_profiler_api", "cuda_profiler_api"), ("cuda_nvtx", "nvtx")):
        _archive(folder, name, "12.4.127", {"include": nvidia / part / "include"})
    shutil.rmtree(raw)


def _nvcc(debs: Path, headers: Path) -> dict[str, Path]:
    """Debian's programs and NVIDIA's headers, in the places of NVIDIA's archive."""
    own, programs = debs / "usr/lib/nvidia-cuda-toolkit", debs / "usr/bin"
    profile = debs / "nvcc.profile"
    profile.write_text(PROFILE, encoding="utf-8")
    names = ("cudafe++", "ptxas", "fatbinary", "nvlink", "bin2c", "nvprune", "cuobjdump")
    return {
        "bin/nvcc": own / "bin/nvcc",
        "bin/nvcc.profile": profile,
        "bin/crt": own / "bin/crt",
        **{f"bin/{name}": programs / name for name in names if (programs / name).exists()},
        "nvvm/bin/cicc": own / "bin/cicc",
        "nvvm/libdevice": own / "libdevice",
        "include": headers / "include",
    }


def _download_debs(folder: Path) -> list[Path]:
    """By apt, with lists of its own: nothing of the machine's is changed."""
    apt = shutil.which("apt-get")
    if apt is None or not Path(KEYRING).is_file():
        pytest.skip("no apt of Debian's")
    site = _run([apt, "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    if not site.split():
        pytest.skip("no apt of Debian's")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {site.split()[0]} trixie main non-free\n")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    common = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    _run([apt, "-qq", *common, "update"])
    _run([apt, "-qq", *common, "download", *DEBS], cwd=folder)
    return sorted(folder.glob("*.deb"))


def _unpack_debs(debs: Iterable[Path], *, into: Path) -> None:
    for deb in debs:
        _run(["dpkg-deb", "--extract", str(deb), str(into)])


def _archive(
    folder: Path,
    name: str,
    version: str,
    content: Mapping[str, Path],
    *,
    links: Mapping[str, str] | None = None,
) -> None:
    top = f"{name}-linux-x86_64-{version}-archive"
    path = folder / "redist" / name / "linux-x86_64" / f"{top}.tar.xz"
    path.parent.mkdir(parents=True)
    # The fastest preset: what is tested is the layout, not the size.
    with lzma.open(path, "wb", preset=0) as out, tarfile.open(fileobj=out, mode="w|") as archive:
        for inner, source in content.items():
            archive.add(source.resolve(), f"{top}/{inner}")
        for inner, target in (links or {}).items():
            link = tarfile.TarInfo(f"{top}/{inner}")
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)


def _write_pins(folder: Path) -> None:
    """Our own pins; for 12.4 the archives that were made."""
    pins = json.loads(toolkits_json(load_data().toolkits))
    parts = pins["toolkits"][CUDA]["parts"]
    for part in parts:
        path = folder / "redist" / part["file"]
        found = sorted(path.parent.glob("*.tar.xz"))
        part["file"] = found[0].relative_to(folder / "redist").as_posix()
        part["sha256"] = hashlib.sha256(found[0].read_bytes()).hexdigest()
        part["size"] = found[0].stat().st_size
    (folder / "toolkits.json").write_text(json.dumps(pins, indent=1), encoding="utf-8")


def write_mirrored_toolkits(mirror: Path, path: Path) -> None:
    """A data folder's toolkits.toml as ours is; the archives of 12.4 are the mirror's."""
    ours = load_data()
    text = (ours.directory / "toolkits.toml").read_text(encoding="utf-8")
    pinned = ours.toolkits.toolkits[(12, 4)]
    made = json.loads((mirror / "toolkits.json").read_text(encoding="utf-8"))
    start = text.index(f'release = "{RELEASE}"')
    before, block = text[:start], text[start:]
    block = block.replace(pinned.base_url, f"{(mirror / 'redist').as_uri()}/", 1)
    for part, other in zip(pinned.parts, made["toolkits"][CUDA]["parts"], strict=True):
        assert part.sha256 in block
        block = block.replace(part.file, other["file"], 1)
        block = block.replace(part.sha256, other["sha256"], 1)
        block = block.replace(f"size = {part.size}\n", f"size = {other['size']}\n", 1)
    path.unlink(missing_ok=True)
    path.write_text(before + block, encoding="utf-8")


def pypi_mirror(folder: Path, wheels: Iterable[Path]) -> Path:
    """A simple index of these files: `<folder>/simple/<name>/index.html` (PEP 503)."""
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        target = files / wheel.name
        if not target.exists():
            os.link(wheel, target) if _same_disk(wheel, files) else shutil.copy(wheel, target)
        project = wheel.name.split("-")[0].replace("_", "-").lower()
        page = folder / "simple" / project / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        line = f'<a href="../../files/{wheel.name}">{wheel.name}</a>\n'
        page.write_text((page.read_text() if page.exists() else "") + line, encoding="utf-8")
    return folder / "simple"


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def pip_download(names: Iterable[str], *, into: Path) -> list[Path]:
    """Each once, kept; by pip, so that the machine's own index settings hold."""
    into.mkdir(parents=True, exist_ok=True)
    found = []
    for name in names:
        project, _, version = name.partition("==")
        pattern = f"{project.replace('-', '_')}-{version}-*.whl"
        if not list(into.glob(pattern)):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            _run([*pip, "--only-binary", ":all:", "-d", str(into), name])
        found += sorted(into.glob(pattern))
    return found


def build_requirement_names() -> list[str]:
    """`setuptools==…` of our pins."""
    rows = [asdict(one) for one in load_data().toolkits.build_requirements]
    return [f"{row['name']}=={row['version']}" for row in rows]


def _run(command: list[str], *, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout
