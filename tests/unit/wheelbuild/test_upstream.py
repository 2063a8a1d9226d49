"""Builds of torch, read from recorded pages of our own making."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from support.replay import ReplayServer
from wheelbuild.errors import IndexReadError
from wheelbuild.serve import JSON_API
from wheelbuild.upstream import PYPI, PYTORCH, TorchBuild, cuda_of, parse_page, read_upstream
from wheelbuild.web import Page, Web

LINUX = "manylinux_2_28_x86_64"


def metadata(*requires: str) -> str:
    lines = [f"Requires-Dist: {one}" for one in ("filelock", *requires)]
    return "\n".join(["Metadata-Version: 2.1", "Name: torch", *lines, "", "long text"])


def pypi_page(*names: str, yanked: tuple[str, ...] = ()) -> tuple[str, bytes]:
    files = [
        {"filename": name, "url": f"../../files/{name}", "yanked": name in yanked} for name in names
    ]
    return JSON_API, json.dumps({"files": files, "name": "torch"}).encode()


def names(release: str, *pythons: str, platform: str = LINUX) -> list[str]:
    return [f"torch-{release}-{tag.rstrip('t')}-{tag}-{platform}.whl" for tag in pythons]


def pytorch_page(*files: str) -> tuple[str, bytes]:
    links = "".join(f'<a href="/whl/{f.replace("+", "%2B")}#sha256=ab">{f}</a><br>' for f in files)
    return "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode()


def read(server: ReplayServer, **changes: object) -> object:
    words = {"pypi": f"{server.url}/simple", "pytorch": f"{server.url}/whl", "cudas": [(12, 4)]}
    given = {**words, "least": (2, 4), "platform": "linux_x86_64", **changes}
    return read_upstream(web=Web(pause=0.0), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("requires", "cuda"),
    [
        ('nvidia-cuda-runtime-cu12 (==12.1.105) ; platform_system == "Linux"', (12, 1)),
        ("nvidia-cuda-runtime-cu12==12.8.90; platform_system == 'Linux'", (12, 8)),
        ("nvidia-cuda-runtime==13.0.96", (13, 0)),
        ("cuda-toolkit[cublas,cudart]==13.2.1; platform_system == 'Linux'", (13, 2)),
        ("nvidia-cudnn-cu13==9.19.0.56", None),
    ],
)
def test_the_cuda_of_a_torch_is_what_it_requires(requires: str, cuda: object) -> None:
    assert cuda_of(metadata("cuda-bindings<14,>=13.0.3", requires)) == cuda


def test_a_page_s_wheels_for_this_platform() -> None:
    files = [
        *names("2.4.0", "cp310", platform="manylinux1_x86_64"),
        *names("2.9.0", "cp314t"),
        *names("2.9.0", "cp310", platform="manylinux_2_28_aarch64"),
        *names("2.9.0", "cp310", platform="win_amd64"),
        *names("2.9.0rc1", "cp310"),
        *names("2.9.0+cpu", "cp310"),
        *names("2.8.0", "cp310"),
        "torch-2.9.0.tar.gz",
        "torchvision-0.1.0-cp310-cp310-linux_x86_64.whl",
    ]
    kind, content = pypi_page(*files, yanked=tuple(names("2.8.0", "cp310")))
    page = Page(url="https://host/simple/torch/", content=content, kind=kind)
    found = parse_page(page, platform="linux_x86_64")
    assert [(one.release, one.python, one.policy) for one in found] == [
        ((2, 4, 0), "cp310", ""),
        ((2, 9, 0), "cp314t", "manylinux_2_28"),
    ]
    assert found[0].url == f"https://host/files/{files[0]}"


def test_both_indexes_are_read_and_named_not_their_mirrors() -> None:
    first, second = names("2.4.0", "cp39", "cp310"), names("2.3.0", "cp310")
    pages = {
        "/simple/torch/": pypi_page(*first, *second),
        f"/files/{first[1]}.metadata": (
            "text/plain",
            metadata("nvidia-cuda-runtime-cu12 (==12.1.105)").encode(),
        ),
        "/whl/cu124/torch/": pytorch_page(*names("2.4.0+cu124", "cp310", platform="linux_x86_64")),
    }
    with ReplayServer(pages) as server:
        found = read(server)
    assert found.notes == ()
    assert [(one.text, one.pythons, one.index) for one in found.builds] == [
        ("2.4.0+cu121", ("cp39", "cp310"), PYPI),
        ("2.4.0+cu124", ("cp310",), f"{PYTORCH}/cu124"),
    ]


def test_without_a_sidecar_metadata_are_read_out_of_the_wheel() -> None:
    (name,) = names("2.15.0", "cp311")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("torch/lib/big.so", b"x" * 900_000)
        archive.writestr("torch-2.15.0.dist-info/METADATA", metadata("cuda-toolkit==13.2.1"))
    pages = {
        "/simple/torch/": pypi_page(name),
        f"/files/{name}": ("application/octet-stream", content.getvalue()),
    }
    with ReplayServer(pages) as server:
        (build,) = read(server).builds
        asked = server.asked.count(f"/files/{name}")
    assert build.text == "2.15.0+cu132"
    assert asked < 4


def test_metadata_that_are_nowhere_are_said() -> None:
    with ReplayServer({"/simple/torch/": pypi_page(*names("2.15.0", "cp311"))}) as server:
        found = read(server)
    assert found.builds == ()
    assert found.notes == ("torch 2.15.0: its METADATA on PyPI names no CUDA",)


def test_pytorch_out_of_reach_is_said_and_survived() -> None:
    (name,) = names("2.9.0", "cp311")
    pages = {
        "/simple/torch/": pypi_page(name),
        f"/files/{name}.metadata": ("text/plain", metadata("cuda-toolkit==13.0.2").encode()),
    }
    with ReplayServer(pages, failures={"/whl/cu124/torch/": [403]}) as server:
        found = read(server, cudas=[(12, 4), (13, 0)])
    assert [build.text for build in found.builds] == ["2.9.0+cu130"]
    assert found.notes[0].endswith("HTTP 403 Forbidden; PyTorch's own index is left out")
    assert "/whl/cu130/torch/" not in server.asked


@pytest.mark.parametrize("page", [None, (JSON_API, b"<html>"), (JSON_API, b'{"files": [3]}')])
def test_no_simple_page_is_an_error(page: tuple[str, bytes] | None) -> None:
    pages = {"/simple/torch/": page} if page else {}
    with ReplayServer(pages) as server, pytest.raises(IndexReadError, match="simple"):
        read(server)


def test_a_build_names_itself() -> None:
    build = TorchBuild(release=(2, 4, 0), cuda=(12, 1), pythons=(), index="", policy="")
    assert (build.text, build.text_release) == ("2.4.0+cu121", "2.4.0")
