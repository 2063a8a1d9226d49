"""A pod whose index has no wheel compiles what it needs, by the packed installer alone."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wheelbuild.cli import main as farm

if TYPE_CHECKING:
    from support.torch_environments import TorchEnvironment

pytestmark = [pytest.mark.integration, pytest.mark.compile]

SMALL = Path(__file__).parent.parent / "data/recipes/small"
SOURCE = SMALL / "recipes/apex/source"


@dataclass
class Pod:
    """An environment with the real torch, an empty index, folders of its own."""

    root: Path
    zipapp: Path
    torch: TorchEnvironment
    cuda: Path

    def run(self, *words: str, target: str = "target") -> tuple[int, str, dict[str, Any]]:
        """(exit code, stderr, report)."""
        folders = {name: self.root / name for name in (target, "tmp", "cache", "index")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        command = [str(self.torch.build_python), str(self.zipapp), "--json"]
        command += ["--index-url", folders["index"].as_uri(), "--target", str(folders[target])]
        done = subprocess.run(
            [*command, "--cache-dir", str(folders["cache"]), "--gpu", "9.0", *words],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root),
                "TMPDIR": str(folders["tmp"]),
                "CUDA_HOME": str(self.cuda),
                "VIRTUAL_ENV": str(self.torch.build_python.parent.parent),
                "APEX_CUDA_EXT": "0",
                "TORCH_CUDA_ARCH_LIST": "5.0",
            },
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr, json.loads(done.stdout or "{}")

    def left(self) -> list[str]:
        """What a run left in its temporary directory, its status and its log apart."""
        names = {path.name for path in (self.root / "tmp").iterdir()}
        return sorted(names - {"apex-install.json", "apex-compile.log"})


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zipapp") / "apex-install.pyz"
    assert farm(["-q", "--data", str(SMALL), "zipapp", "--out", str(out)]) == 0
    return out


@pytest.fixture
def pod(tmp_path: Path, zipapp: Path, torch_211: TorchEnvironment, cuda_130: Path) -> Pod:
    return Pod(tmp_path, zipapp, torch_211, cuda_130)


def test_a_miss_is_compiled_and_kept(pod: Pod) -> None:
    code, said, report = pod.run("--source", str(SOURCE))
    assert code == 0, said
    assert report["outcome"] == "compiled"
    assert report["chosen"]["version"].endswith("cu130.torch2.11.norm.sm90")
    (module,) = report["chosen"]["modules"]
    assert (module["name"], module["machine_code"]) == ("fused_layer_norm_cuda", ["9.0"])
    assert "apex: no wheel fits: compiling fused_layer_norm_cuda for 9.0, 80 CPU-seconds" in said
    assert said.splitlines()[-1].startswith("apex: compiled, apex 0.1+")
    assert pod.left() == []
    assert "# fused_layer_norm_cuda" in (pod.root / "tmp/apex-compile.log").read_text()

    code, said, report = pod.run()
    assert (code, report["outcome"]) == (0, "already")

    began = time.monotonic()
    same = ("--source", str(SOURCE), "--at-least", "compiled")
    code, said, report = pod.run(*same, target="another")
    assert (code, report["outcome"]) == (0, "compiled"), said
    assert "from the cache" in "".join(report["findings"])
    assert time.monotonic() - began < 10
    assert list((pod.root / "another").glob("fused_layer_norm_cuda*.so"))

    # Who names no source, or another one, is not given what was made of this one.
    code, said, report = pod.run("--at-least", "compiled", target="third")
    assert (code, report["outcome"]) == (3, "none")
    assert "no source of environment" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no source of environment: name a checkout with --source DIR"),
        (("--source", "/nowhere"), "/nowhere: no setup.py there; give the folder of a checkout"),
        (("--source", "/usr"), "/usr: no setup.py there; give the folder of a checkout"),
        (("--source", str(SOURCE), "--compile-timeout", "21"), "the time limit"),
    ],
)
def test_what_fails_says_why_and_leaves_nothing(
    pod: Pod, words: tuple[str, ...], says: str
) -> None:
    began = time.monotonic()
    code, said, report = pod.run(*words)
    assert (code, report["outcome"]) == (3, "none")
    assert says in said.splitlines()[-1]
    assert time.monotonic() - began < 60
    assert pod.left() == []
    assert list((pod.root / "target").iterdir()) == []


def test_no_time_for_a_compile_is_no_compile(pod: Pod) -> None:
    code, said, report = pod.run("--source", str(SOURCE), "--compile-timeout", "0")
    assert (code, [attempt["outcome"] for attempt in report["attempts"]]) == (3, ["wheel"])
    assert "compiling" not in said
