"""Real Apex's norms, compiled by the pod's own path with CUDA 12.4, 13.0, and 12.1 in name.

Minutes each, so it runs with the long counts, given a git checkout of NVIDIA Apex that holds the
recipe's commits. CUDA 12.1's compiler cannot be had everywhere: 12.4's, which says 12.1 of itself,
compiles the first user's cell here; what comes of it is symbol-checked and imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import packaging
import pytest

from apex_installer.deadline import Deadline
from apex_installer.get.cache import Cache, CacheLocation
from apex_installer.get.supply import Supply
from apex_installer.make.pins import parse_pins
from apex_installer.make.provide import fetch_toolkit
from support.cuda_mirror import cuda_mirror
from support.torch_environments import torch_environment
from wheelbuild.cli import main as farm
from wheelbuild.data import load_data

if TYPE_CHECKING:
    from support.torch_environments import TorchEnvironment

pytestmark = [pytest.mark.integration, pytest.mark.compile, pytest.mark.apex, pytest.mark.soak]

WRAPPER = """\
#!/bin/sh
case " $* " in *" -V "* | *" --version "*)
  echo "Cuda compilation tools, release 12.1, V12.1.105"; exit ;;
esac
exec "$(dirname "$0")/nvcc-12.4" "$@"
"""
RUNS = (
    "import torch, fused_layer_norm_cuda as module; from apex.normalization import FusedRMSNorm;"
    "FusedRMSNorm(128); print(sorted(name for name in dir(module) if name.startswith('rms_')))"
)


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zipapp") / "apex-install.pyz"
    assert farm(["-q", "zipapp", "--out", str(out)]) == 0
    return out


def source_for(torch: str, apex_source: Path, folder: Path) -> Path:
    """The files of the recipe's commit for this torch."""
    minor = tuple(int(part) for part in torch.split(".")[:2])
    ref = next(
        one
        for one in load_data().recipe.refs
        if one.torch_min <= minor and (one.torch_max is None or minor <= one.torch_max)
    )
    folder.mkdir()
    packed = subprocess.run(
        ["git", "-C", str(apex_source), "archive", ref.commit], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder


def compile_on_pod(
    zipapp: Path, torch: TorchEnvironment, folder: Path, source: Path, *words: str
) -> dict[str, Any]:
    """The report; what was made is imported and constructed by torch's own interpreter."""
    target, scratch = folder / "target", folder / "tmp"
    scratch.mkdir()
    shutil.copytree(Path(packaging.__file__).parent, target / "packaging")
    command = [str(torch.build_python), str(zipapp), "--json", "--python", str(torch.build_python)]
    command += ["--target", str(target), "--cache-dir", str(folder / "cache"), "--gpu", "9.0"]
    done = subprocess.run(
        [*command, "--source", str(source), *words],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ran = subprocess.run(
        [str(torch.build_python), "-c", RUNS],
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "rms_forward_affine_mixed_dtypes" in ran.stdout, ran.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    print(torch.version, report["line"], report["seconds"], report["bytes"])  # noqa: T201 - figures
    return report


def test_torch_26_by_cuda_124(
    tmp_path: Path, zipapp: Path, torch_26: TorchEnvironment, cache: Path, apex_source: Path
) -> None:
    mirror = cuda_mirror(cache)
    pins = ["--toolkits", str(mirror / "toolkits.json")]
    report = compile_on_pod(
        zipapp,
        torch_26,
        tmp_path,
        source_for(torch_26.version, apex_source, tmp_path / "source"),
        *pins,
        "--cuda-mirror",
        (mirror / "redist").as_uri(),
    )
    assert report["chosen"]["version"].endswith("cu124.torch2.6.norm.sm90")


def test_torch_211_by_cuda_130(
    tmp_path: Path, zipapp: Path, torch_211: TorchEnvironment, apex_source: Path, cuda_130: Path
) -> None:
    source = source_for(torch_211.version, apex_source, tmp_path / "source")
    report = compile_on_pod(zipapp, torch_211, tmp_path, source, "--toolkit", str(cuda_130))
    assert report["chosen"]["version"].endswith("cu130.torch2.11.norm.sm90")


def test_the_first_users_torch_by_a_compiler_that_says_121(
    tmp_path: Path, zipapp: Path, cache: Path, apex_source: Path
) -> None:
    mirror, torch = cuda_mirror(cache), torch_environment("2.4.0", cache=cache)
    pinned = parse_pins((mirror / "toolkits.json").read_text(), where="pins").get("12.4")
    assert pinned is not None
    location = CacheLocation(str(tmp_path / "parts"), "", outlives_pod=False)
    home = Path(
        fetch_toolkit(
            pinned,
            supply=Supply(
                cache=Cache(location),
                deadline=Deadline(60),
                allow_http=False,
                offline=False,
                pypi_url="",
            ),
            mirror=(mirror / "redist").as_uri(),
            into=str(tmp_path / "toolkit"),
        ).home
    )
    (home / "bin/nvcc").rename(home / "bin/nvcc-12.4")
    (home / "bin/nvcc").write_text(WRAPPER, encoding="utf-8")
    (home / "bin/nvcc").chmod(0o755)
    report = compile_on_pod(
        zipapp,
        torch,
        tmp_path,
        source_for(torch.version, apex_source, tmp_path / "source"),
        "--toolkit",
        str(home),
    )
    assert report["chosen"]["version"] == "0.1+20250411.cu121.torch2.4.norm.sm90"
    assert report["chosen"]["cell"].endswith("torch2.4-cu121-linux_x86_64")
