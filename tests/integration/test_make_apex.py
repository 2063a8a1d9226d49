"""Capture and graph on a real checkout of NVIDIA Apex; nothing is compiled."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.make.build import find_sources
from apex_installer.make.capture import run_capture
from apex_installer.make.compose import complete_toolkit
from apex_installer.make.graph import CPP, CUDA, HEADER, LINK, build_graph
from apex_installer.make.surroundings import build_environment
from apex_installer.make.toolkit import find_toolkit
from apex_installer.model.arch import Architectures

if TYPE_CHECKING:
    from support.torch_environments import TorchEnvironment

pytestmark = [pytest.mark.integration, pytest.mark.compile, pytest.mark.apex]

CORE = {
    *("apex_C", "amp_C", "syncbn", "fused_layer_norm_cuda", "mlp_cuda", "fused_dense_cuda"),
    *("scaled_upper_triang_masked_softmax_cuda", "generic_scaled_masked_softmax_cuda"),
    *("scaled_masked_softmax_cuda", "scaled_softmax_cuda", "fused_rotary_positional_embedding"),
    "fused_weight_gradient_mlp_cuda",
}
ASKED = "8.0;9.0+PTX"


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def test_core_is_captured_and_its_source_left_as_it_was(
    apex_source: Path, torch_211: TorchEnvironment, cuda_130: Path, tmp_path: Path
) -> None:
    toolkit = complete_toolkit(
        find_toolkit("13.0", environ=os.environ, extra=[str(cuda_130)]),
        torch_directory=str(torch_211.site_packages / "torch"),
        into=str(tmp_path / "cuda"),
    )
    build = tmp_path / "build"
    build.mkdir()
    environ, _ = build_environment(
        os.environ,
        flags={},
        cuda_home=toolkit.home,
        architectures=ASKED,
        temporary=str(tmp_path),
    )
    before = digests(apex_source)
    capture = run_capture(
        str(torch_211.build_python),
        source=str(apex_source),
        argv=["--cpp_ext", "--cuda_ext"],
        environ=environ,
        build=str(build),
        log=str(tmp_path / "log"),
    )
    assert digests(apex_source) == before
    assert set(capture.modules) == CORE
    assert (Path(capture.python_tree) / "apex/normalization/fused_layer_norm.py").is_file()

    graph = build_graph(
        capture,
        modules=sorted(CORE),
        architectures=Architectures.parse(ASKED),
        shim="/shim",
        sources=find_sources(capture, source=str(apex_source)),
        precompile=True,
    )
    assert [len(graph.of_kind(kind)) for kind in (CUDA, CPP, LINK)] == [25, 12, 12]
    # One header serves all but apex_C, which has no CUDA folder on its line.
    assert len(graph.of_kind(HEADER)) == 2
    for node in graph.of_kind(CUDA):
        # Old refs set architectures of their own for some modules.
        assert [part.rpartition("code=")[2] for part in node.argv if ",code=" in part] == [
            *("sm_80", "sm_90", "compute_90")
        ]
        assert not set(capture.facts["python_includes"]) & {part[2:] for part in node.argv}
