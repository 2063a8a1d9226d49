"""A pod without torch's CUDA gets exactly that: archives, wheels, headers alone; then it compiles.

The mirror has NVIDIA's layout (`support.cuda_mirror`), the index of wheels PEP 503's; both are on
loopback, and every part is fetched, verified, unpacked, composed and used.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import packaging
import pytest

from apex_installer.deadline import Deadline
from apex_installer.errors import DownloadError, ToolkitError, TrustError
from apex_installer.get.cache import Cache, CacheLocation
from apex_installer.get.supply import Supply
from apex_installer.make.pins import Part, Pinned, parse_pins
from apex_installer.make.provide import complete, fetch_headers, fetch_toolkit
from apex_installer.make.toolkit import Toolkit
from support.cuda_mirror import build_requirement_names, cuda_mirror, pip_download, pypi_mirror
from support.machine import SMALL
from wheelbuild.cli import main as farm
from wheelbuild.data import load_data
from wheelbuild.engines.toolkit import fetch_wheels
from wheelbuild.serve import IndexServer
from wheelbuild.thin_json import toolkits_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.torch_environments import TorchEnvironment

pytestmark = pytest.mark.integration

SOURCE = SMALL / "recipes/apex/source"
RUNTIME = "nvidia-cuda-runtime"


@pytest.fixture(scope="module")
def mirror(cache: Path) -> Path:
    return cuda_mirror(cache)


@pytest.fixture(scope="module")
def redist(mirror: Path) -> Iterator[str]:
    with IndexServer(mirror) as server:
        yield f"{server.url}redist/"


@pytest.fixture(scope="module")
def pypi(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The wheels of CUDA 13.0's toolkit, its runtime's headers and the build requirements."""
    pinned = load_data().toolkits.toolkits[(13, 0)]
    folder = cache / "toolkits" / "parts"
    parts = fetch_wheels(pinned.parts, into=folder, name="CUDA 13.0")
    headers = [f"{one.name}=={one.version}" for one in pinned.headers if one.name == RUNTIME]
    more = pip_download([*headers, *build_requirement_names()], into=cache / "toolkits" / "parts")
    folder = tmp_path_factory.mktemp("pypi")
    pypi_mirror(folder, [*parts.values(), *more])
    with IndexServer(folder) as server:
        yield f"{server.url}simple/"


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zipapp") / "apex-install.pyz"
    assert farm(["-q", "--data", str(SMALL), "zipapp", "--out", str(out)]) == 0
    return out


@dataclass
class Pod:
    """Its interpreter has torch and Python.h, and sees no CUDA."""

    root: Path
    zipapp: Path
    torch: TorchEnvironment
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str) -> tuple[int, str, dict[str, Any]]:
        for name in ("target", "tmp", "index"):
            (self.root / name).mkdir(exist_ok=True)
        # What Apex needs at run time, where torch's environment has it not: only for this target.
        if not (needed := self.root / "target/packaging").exists():
            shutil.copytree(Path(packaging.__file__).parent, needed)
        python = str(self.torch.python)
        common = ["--json", "--gpu", "9.0", "--index-url", (self.root / "index").as_uri()]
        common += ["--target", str(self.root / "target")]
        done = subprocess.run(
            [python, str(self.zipapp), *common, "--python", python, *words],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root),
                "TMPDIR": str(self.root / "tmp"),
                **self.environ,
            },
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr, json.loads(done.stdout or "{}")

    def left(self) -> list[str]:
        names = {path.name for path in (self.root / "tmp").iterdir()}
        return sorted(names - {"apex-install.json", "apex-compile.log"})


@pytest.mark.compile
def test_cuda_12_from_archives(
    tmp_path: Path, zipapp: Path, torch_26: TorchEnvironment, mirror: Path, redist: str, pypi: str
) -> None:
    """Miss, archives, headers of torch's own wheels, compile, symbol check, install, already."""
    pod = Pod(tmp_path, zipapp, torch_26)
    pins = ["--toolkits", str(mirror / "toolkits.json"), "--cuda-mirror", redist]
    pins += ["--source", str(SOURCE)]
    code, said, report = pod.run(*pins, "--pypi-url", pypi)
    assert code == 0, said
    assert report["outcome"] == "compiled"
    assert report["chosen"]["version"].endswith("cu124.torch2.6.norm.sm90")
    assert report["chosen"]["cxx11_abi"] is False
    findings = "\n".join(report["findings"])
    assert "CUDA 12.4 by NVIDIA's archives, completed with torch's headers" in findings
    assert 30e6 < report["bytes"]["toolkit"] <= 60e6
    assert "MB of CUDA 12.4 to fetch" in said
    assert pod.left() == []
    loads = "import torch, fused_layer_norm_cuda; print(torch.__version__)"
    done = subprocess.run(
        [str(torch_26.python), "-c", loads],
        env={"PYTHONPATH": str(tmp_path / "target")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "2.6.0+cu124\n", done.stderr
    assert pod.run(*pins)[2]["outcome"] == "already"
    shutil.rmtree(tmp_path / "target")
    offline = pod.run(*pins, "--offline")
    assert offline[2]["outcome"] == "compiled", offline[1]


@pytest.mark.compile
def test_cuda_13_from_pypi_alone_by_a_cache_that_was_filled_before(
    tmp_path: Path, zipapp: Path, torch_211: TorchEnvironment, pypi: str
) -> None:
    """`prefetch` where there is a network: source and requirements of the index, NVIDIA's wheels.

    Then a compile without any network, and without the index.
    """
    pod = Pod(tmp_path, zipapp, torch_211)
    common = ["-q", "--data", str(SMALL), "--cache", str(tmp_path / "farm")]
    assert farm([*common, "sources", "--index", str(tmp_path / "index"), "environment"]) == 0
    cache = ["--cache-dir", str(tmp_path / "volume")]
    code, said, report = pod.run("prefetch", "--pypi-url", pypi, *cache)
    assert code == 0, said
    last = said.splitlines()[-1]
    got = "source of environment, CUDA 13.0.2 (102.3 MB)"
    assert f"prefetched into {tmp_path}/volume: {got} (not: no-wheel: " in last
    assert 100e6 < report["bytes"]["downloaded"] <= 110e6
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["packaging"]
    shutil.rmtree(tmp_path / "index")
    offline = ["--toolkit", "pypi", "--offline", "--pypi-url", "http://127.0.0.1:9/", *cache]
    code, said, report = pod.run(*offline)
    assert report["outcome"] == "compiled", said
    assert "toolkit: CUDA 13.0 by NVIDIA's wheels" in "\n".join(report["findings"])
    assert report["chosen"]["modules"][0]["machine_code"] == ["9.0"]
    assert report["bytes"]["downloaded"] == 0
    assert pod.left() == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--toolkit", "/nowhere"], "--toolkit (/nowhere) is not there"),
        (["--toolkit", "archive"], "--toolkit archive: CUDA 13.0 comes as wheels"),
        (["--toolkit", "pypi", "--offline"], "is not in the cache: apex-install prefetch fills it"),
        (["--toolkit", "pypi", "--compile-timeout", "5"], "a longer time is --compile-timeout"),
        (["--toolkits", "/nowhere"], "usage: --toolkits /nowhere: "),
    ],
)
def test_what_cannot_be_is_said_at_once(
    tmp_path: Path, zipapp: Path, torch_211: TorchEnvironment, words: list[str], says: str
) -> None:
    pod = Pod(tmp_path, zipapp, torch_211)
    code, said, _ = pod.run("--source", str(SOURCE), *words)
    assert code == (2 if "usage" in says else 3)
    assert says in said.splitlines()[-1]
    assert pod.left() == []
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["packaging"]


def make_supply(folder: Path, pypi_url: str = "", *, seconds: float = 60) -> Supply:
    location = CacheLocation(str(folder / "cache"), "--cache-dir", outlives_pod=False)
    return Supply(
        cache=Cache(location).files(),
        deadline=Deadline(seconds),
        allow_http=False,
        offline=False,
        pypi_url=pypi_url,
    )


def pinned_124(mirror: Path) -> Pinned:
    pins = parse_pins((mirror / "toolkits.json").read_text(), where="pins")
    found = pins.get("12.4")
    assert found is not None
    return found


def test_bytes_that_are_not_the_pinned_ones_are_never_unpacked(
    tmp_path: Path, mirror: Path
) -> None:
    """An archive on the mirror was exchanged."""
    copy = tmp_path / "redist"
    shutil.copytree(mirror / "redist", copy)
    (nvtx,) = copy.glob("cuda_nvtx/*/*.tar.xz")
    content = bytearray(nvtx.read_bytes())
    content[1000] ^= 1
    nvtx.write_bytes(content)
    with pytest.raises(TrustError, match="sha256 is"):
        fetch_toolkit(
            pinned_124(mirror),
            supply=make_supply(tmp_path),
            mirror=copy.as_uri(),
            into=str(tmp_path / "toolkit"),
        )
    assert not list(tmp_path.glob("toolkit/*"))


def test_a_part_is_continued_and_what_is_there_is_not_fetched_again(
    tmp_path: Path, mirror: Path, redist: str
) -> None:
    pinned = pinned_124(mirror)
    nvcc = pinned.parts[0]
    whole = (mirror / "redist" / nvcc.file).read_bytes()
    part = tmp_path / f"cache/files/{nvcc.sha256}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(whole[:-1000])
    first = make_supply(tmp_path)
    fetch_toolkit(pinned, supply=first, mirror=redist, into=str(tmp_path / "one"))
    assert first.downloaded == pinned.size - len(whole) + 1000
    second = make_supply(tmp_path)
    fetch_toolkit(pinned, supply=second, mirror="http://127.0.0.1:9/", into=str(tmp_path / "two"))
    assert second.downloaded == 0


@pytest.fixture(scope="module")
def runtime() -> Part:
    pins = parse_pins(toolkits_json(load_data().toolkits), where="pins")
    pinned = pins.get("13.0")
    assert pinned is not None
    return next(one for one in pinned.headers if one.name == RUNTIME)


def test_headers_alone_by_range_requests(tmp_path: Path, pypi: str, runtime: Part) -> None:
    supply = make_supply(tmp_path, pypi)
    folder = Path(fetch_headers(runtime, supply=supply, into=str(tmp_path / "headers")))
    assert (folder / "nvidia/cu13/include/cuda_runtime.h").is_file()
    assert not list(folder.rglob("*.so*"))
    assert not list((tmp_path / "cache").rglob("*.whl"))


class _NoRanges(http.server.SimpleHTTPRequestHandler):
    """The standard library's server sends whole files only."""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_whole_files(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *words: _NoRanges(*words, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_from_the_whole_wheel_where_a_server_sends_no_ranges(
    tmp_path: Path, cache: Path, runtime: Part, pypi: str
) -> None:
    del pypi  # has downloaded it
    pypi_mirror(tmp_path / "pypi", [cache / "toolkits/parts" / runtime.file])
    with serve_whole_files(tmp_path / "pypi") as url:
        supply = make_supply(tmp_path, url)
        folder = Path(fetch_headers(runtime, supply=supply, into=str(tmp_path / "headers")))
    assert (folder / "nvidia/cu13/include/cuda_runtime.h").is_file()
    assert list((tmp_path / "cache").rglob(runtime.file))


def test_headers_are_believed_by_the_pinned_record_alone(
    tmp_path: Path, pypi: str, runtime: Part
) -> None:
    wrong = replace(runtime, record_sha256="0" * 64)
    with pytest.raises(TrustError, match="its RECORD is not the pinned one"):
        fetch_headers(wrong, supply=make_supply(tmp_path, pypi), into=str(tmp_path / "headers"))


def test_an_index_without_the_file_is_named(tmp_path: Path, pypi: str, runtime: Part) -> None:
    gone = replace(runtime, file="nvidia_cuda_runtime-9.9.9-py3-none-any.whl")
    with pytest.raises(DownloadError, match=r"does not list nvidia_cuda_runtime-9\.9\.9"):
        fetch_headers(gone, supply=make_supply(tmp_path, pypi), into=str(tmp_path / "headers"))


def test_a_torch_that_brought_nothing_is_completed_from_nvidias_wheels(
    tmp_path: Path, pypi: str, runtime: Part
) -> None:
    """As conda's: a compiler that is there, no `nvidia` folder; what is nowhere is named."""
    home, torch = tmp_path / "conda", tmp_path / "packages/torch"
    for name in ("bin/nvcc", "targets/x86_64-linux/include/cublas_v2.h", "lib/libcudart.so"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    torch.mkdir(parents=True)
    pinned = Pinned("13.0", "13.0.2", "wheels", "https://x/", 15, (), (runtime,))
    with pytest.raises(ToolkitError, match=r"lacks .*cusparse\.h") as told:
        complete(
            Toolkit(str(home), "13.0", "conda"),
            pinned,
            torch_directory=str(torch),
            supply=make_supply(tmp_path, pypi),
            into=str(tmp_path / "into"),
        )
    assert "cuda_runtime.h" not in str(told.value)
    assert "cublas_v2.h" not in str(told.value)


def test_what_cannot_be_prefetched_is_said(
    tmp_path: Path, zipapp: Path, torch_211: TorchEnvironment
) -> None:
    pod = Pod(tmp_path, zipapp, torch_211)
    code, said, report = pod.run("prefetch", "--pypi-url", "http://127.0.0.1:9/")
    assert code == 3
    assert [one["outcome"] for one in report["attempts"]] == ["wheel", "compiled"]
    assert "127.0.0.1:9" in said.splitlines()[-1]
