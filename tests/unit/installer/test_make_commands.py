import pytest

from apex_installer.errors import CompileError
from apex_installer.make.commands import parse_ninja, parse_spawned

# As torch 2.11's BuildExtension writes it, shortened.
NINJA = """\
ninja_required_version = 1.3
cxx = c++
nvcc = /cuda/bin/nvcc

cflags = -DNDEBUG -g -O3 -fPIC -I/torch/include -c
post_cflags = -DTORCH_EXTENSION_NAME=m -std=c++17
cuda_cflags = -I/torch/include -c
cuda_post_cflags = --compiler-options ''"'"'-fPIC'"'"'' -O3 -gencode=arch=compute_90,code=sm_90
cuda_dlink_post_cflags =
ldflags =

rule compile
  command = $cxx -MMD -MF $out.d $cflags -c $in -o $out $post_cflags
  depfile = $out.d
  deps = gcc

rule cuda_compile
  depfile = $out.d
  deps = gcc
  command = $nvcc -MD -MF $out.d $cuda_cflags -c $in -o $out $cuda_post_cflags

build /t/a.o: compile /src/a$ b.cpp
build /t/k.o: cuda_compile /src/k.cu

default /t/a.o
"""


def test_every_build_statement_becomes_a_command() -> None:
    host, device = parse_ninja(NINJA)
    assert host.inputs == ("/src/a b.cpp",)
    assert host.output == "/t/a.o"
    assert " ".join(host.argv) == (
        "c++ -MMD -MF /t/a.o.d -DNDEBUG -g -O3 -fPIC -I/torch/include -c -c /src/a b.cpp "
        "-o /t/a.o -DTORCH_EXTENSION_NAME=m -std=c++17"
    )
    assert device.argv[0] == "/cuda/bin/nvcc"


def test_the_shell_quotes_that_torch_writes_stay_as_nvcc_would_get_them() -> None:
    argv = parse_ninja(NINJA)[1].argv
    assert argv[argv.index("--compiler-options") + 1] == "'-fPIC'"


def test_a_rule_that_is_missing_is_named() -> None:
    with pytest.raises(CompileError, match="no rule 'sycl_compile'"):
        parse_ninja("build /t/a.o: sycl_compile /src/a.cpp\n")


def test_spawned_lines_are_compiles_and_links() -> None:
    compiles, links = parse_spawned(
        [
            ["gcc", "-fPIC", "-c", "/src/a.c", "-o", "/t/a.o"],
            ["g++", "-shared", "/t/a.o", "/t/k.o", "-lc10", "-o", "/b/lib/pkg/m.cpython-311.so"],
            ["strip", "nothing"],
        ],
        library_folder="/b/lib",
        extension_suffix=".cpython-311.so",
    )
    assert [(one.inputs, one.output) for one in compiles] == [(("/src/a.c",), "/t/a.o")]
    assert [(one.module, one.objects) for one in links] == [("pkg.m", ("/t/a.o", "/t/k.o"))]
