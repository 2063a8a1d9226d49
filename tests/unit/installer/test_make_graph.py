from dataclasses import replace

import pytest

from apex_installer.errors import CompileError
from apex_installer.make.graph import (
    CPP,
    CUDA,
    HEADER,
    LINK,
    Graph,
    Sources,
    build_graph,
    may_shadow,
    place,
    takes_header,
)
from apex_installer.model.arch import Architectures
from support.captures import BUILD, CAPTURE, PYTHON_INCLUDE, cu, link

SM90 = Architectures.parse("9.0")
FRONT = "#include <torch/extension.h>\n"


def graph_of(*modules: str, sources: dict[str, str] | None = None, **options: bool) -> Graph:
    return build_graph(
        CAPTURE,
        modules=modules,
        architectures=SM90,
        shim="/w/shim",
        sources=Sources(sources or {}),
        **{"precompile": False, **options},
    )


def test_only_the_asked_modules_are_made_and_links_come_last() -> None:
    labels = [node.label for node in graph_of("two").nodes]
    assert labels == ["two: two.cpp", "two: shared.cu", "two: link"]


def test_an_object_of_two_modules_is_compiled_once() -> None:
    graph = graph_of("one", "two")
    assert [node.label for node in graph.of_kind(CUDA)] == ["one: one_kernel.cu", "one: shared.cu"]
    assert all(f"{BUILD}/temp/shared.o" in node.needs for node in graph.of_kind(LINK))


def test_a_module_that_setup_does_not_make_is_named_with_those_it_makes() -> None:
    with pytest.raises(CompileError, match="does not make three with these flags; it makes one, t"):
        graph_of("three")


def test_device_code_without_architectures_is_refused() -> None:
    with pytest.raises(CompileError, match="two has device code, but no architecture"):
        build_graph(
            CAPTURE,
            modules=["two"],
            architectures=None,
            shim="",
            sources=Sources({}),
            precompile=False,
        )


def test_device_code_is_compiled_without_pythons_headers_and_for_what_is_asked() -> None:
    node = graph_of("two").of_kind(CUDA)[0]
    assert f"-I{PYTHON_INCLUDE}" not in node.argv
    assert node.argv[1] == "-I/w/shim"
    assert node.argv[-1] == "-gencode=arch=compute_90,code=sm_90"
    assert "arch=compute_70,code=sm_70" not in node.argv
    # What it falls back to is the captured line, for the same architectures.
    assert f"-I{PYTHON_INCLUDE}" in node.plain
    assert node.plain[-1] == node.argv[-1]


@pytest.mark.parametrize(
    ("text", "slim"),
    [
        ("PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {}", False),
        ("// PYBIND11_MODULE is in the .cpp\n", True),
        ("__global__ void f() {}", True),
    ],
    ids=["binds", "only says so", "kernel"],
)
def test_device_code_that_binds_python_is_taken_as_captured(text: str, *, slim: bool) -> None:
    node = graph_of("two", sources={"/src/shared.cu": text}).of_kind(CUDA)[0]
    assert bool(node.plain) is slim
    assert (f"-I{PYTHON_INCLUDE}" in node.argv) is not slim


def test_the_command_of_device_code_does_not_name_the_python() -> None:
    other = replace(CAPTURE, facts={**CAPTURE.facts, "python_includes": ["/torch/include"]})
    assert PYTHON_INCLUDE not in " ".join(graph_of("two").of_kind(CUDA)[0].argv)
    graph = build_graph(
        other, modules=["two"], architectures=SM90, shim="/s", sources=Sources({}), precompile=False
    )
    assert PYTHON_INCLUDE in " ".join(graph.of_kind(CUDA)[0].argv)


def test_host_code_has_no_debug_information_and_torchs_other_flags() -> None:
    argv = graph_of("two").of_kind(CPP)[0].argv
    assert "-g" not in argv
    assert argv[-1] == "-g0"
    assert {"-O3", "-fPIC", "-std=c++17", "-DTORCH_EXTENSION_NAME=two"} <= set(argv)


def test_links_have_no_run_path_and_are_stripped_when_asked() -> None:
    assert not [part for part in graph_of("two").of_kind(LINK)[0].argv if "rpath" in part]
    assert graph_of("two", strip=True).of_kind(LINK)[0].argv[-1] == "-s"
    assert "-s" not in graph_of("two").of_kind(LINK)[0].argv


def test_one_header_serves_all_sources_of_the_same_flags() -> None:
    sources = {"/src/one.cpp": FRONT, "/src/two.cpp": FRONT}
    graph = graph_of("one", "two", sources=sources, precompile=True)
    (header,) = graph.of_kind(HEADER)
    assert graph.nodes[0] == header
    assert not [part for part in header.argv if "EXTENSION_NAME" in part or part.endswith(".cpp")]
    for node in graph.of_kind(CPP):
        assert node.header == header.name
        assert node.argv[1:4] == ("-Werror=invalid-pch", "-include", header.source)
        assert node.plain == (node.argv[0], *node.argv[4:])


def test_a_folder_of_the_source_s_own_headers_makes_no_second_header() -> None:
    more = replace(
        CAPTURE.compiles[-1], argv=(*CAPTURE.compiles[-1].argv, "-I/src/csrc", "-I/src/other")
    )
    capture = replace(CAPTURE, compiles=(*CAPTURE.compiles[:-1], more))

    def headers(*own: str) -> int:
        graph = build_graph(
            capture,
            modules=["one", "two"],
            architectures=SM90,
            shim="/s",
            sources=Sources({"/src/one.cpp": FRONT, "/src/two.cpp": FRONT}, own),
            precompile=True,
        )
        return len(graph.of_kind(HEADER))

    assert headers("/src/csrc", "/src/other") == 1
    assert headers("/src/csrc") == 2


@pytest.mark.parametrize(
    ("names", "shadows"),
    [
        (["type_shim.h", "mlp.cpp"], False),
        (["cuda.h"], True),
        (["vector"], True),
        (["megatron/"], False),
        (["torch/"], True),
        ([], False),
    ],
    ids=[
        "own names",
        "a name of CUDA's",
        "a name of the C++ library's",
        "own folder",
        "torch",
        "empty",
    ],
)
def test_a_folder_that_could_shadow_a_header_is_told(names: list[str], *, shadows: bool) -> None:
    assert may_shadow(names, ["cuda.h", "torch/"]) is shadows


@pytest.mark.parametrize(
    ("text", "takes"),
    [
        (FRONT, True),
        ("/* licence\n * text */\n\n#include <stdio.h>\n" + FRONT, True),
        ("// #define X\n#include <ATen/ATen.h>\n" + FRONT, True),
        ("#define TORCH_ASSERT_NO_OPERATORS\n" + FRONT, False),
        ("#ifdef X\n#endif\n" + FRONT, False),
        ('#include "mine.h"\n' + FRONT, False),
        ("#include <vector>\nint x;\n" + FRONT, False),
        ("#include <torch/torch.h>\n", False),
        ("", False),
    ],
    ids=[
        *("first", "after a licence", "after torch's own", "after a macro", "after a condition"),
        *("after its own header", "after code", "never", "empty"),
    ],
)
def test_a_header_goes_first_only_where_that_changes_nothing(text: str, *, takes: bool) -> None:
    assert takes_header(text) is takes


def test_objects_of_a_device_link_come_before_it() -> None:
    linked = replace(cu("all", "one"), inputs=(f"{BUILD}/temp/one_kernel.o",))
    capture = replace(
        CAPTURE,
        compiles=(*CAPTURE.compiles, linked),
        links=(link("one", "one", "one_kernel", "all"),),
    )
    graph = build_graph(
        capture,
        modules=["one"],
        architectures=SM90,
        shim="/s",
        sources=Sources({}),
        precompile=False,
    )
    names = [node.name for node in graph.nodes]
    assert graph.named()[linked.output].needs == (f"{BUILD}/temp/one_kernel.o",)
    assert names.index(f"{BUILD}/temp/one_kernel.o") < names.index(linked.output)


def test_real_paths_stand_in_for_captured_ones() -> None:
    argv = ("g++", "-MF", "/b/a.o.d", "-c", "a.cpp", "-o", "/b/a.o")
    assert place(argv, {"/b/a.o": "/w/1/a.o"}) == (
        *("g++", "-MF", "/w/1/a.o.d", "-c", "a.cpp", "-o", "/w/1/a.o"),
    )
