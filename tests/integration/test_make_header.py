"""The precompiled header with the real g++, on a stand-in for torch/extension.h."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from apex_installer.make.capture import Capture
from apex_installer.make.commands import Compile, Link
from apex_installer.make.freshness import HEADER_PAYS, Keys, find_work
from apex_installer.make.graph import CPP, HEADER, Graph, Sources, build_graph
from apex_installer.make.run import Made, Settings, run_graph
from apex_installer.make.store import Places, Store

pytestmark = [pytest.mark.integration, pytest.mark.compile]

EXTENSION = "#pragma once\n#include <vector>\ninline int twice(int x) { return 2 * x; }\n"
SOURCE = """\
// the module's name differs on each command line
#include <cstdio>
#include <torch/extension.h>
#define TEXT(x) #x
#define NAME(x) TEXT(x)
std::vector<int> f() { std::puts(NAME(TORCH_EXTENSION_NAME)); return {twice(%d)}; }
"""


@dataclass(frozen=True)
class Kitchen:
    """Sources, and the graph of their objects (each module is one object, nothing is linked)."""

    folder: Path

    def write(self, extension: str = EXTENSION) -> None:
        for number in range(HEADER_PAYS):
            self.put(f"src/m{number}.cpp", SOURCE % number)
        self.put("include/torch/extension.h", extension)

    def put(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        os.utime(path, (1_000_000, 1_000_000))

    def graph(self, *, precompile: bool) -> Graph:
        compiles = []
        for number in range(HEADER_PAYS):
            source, out = f"{self.folder}/src/m{number}.cpp", f"/b/temp/m{number}.o"
            argv = f"c++ -MMD -MF {out}.d -g -O2 -fPIC -I{self.folder}/include -c {source} -o {out}"
            name = f"-DTORCH_EXTENSION_NAME=m{number}"
            compiles.append(Compile((source,), out, (*argv.split(), name)))
        capture = Capture(
            facts={"python_includes": []},
            setup={},
            compiles=tuple(compiles),
            links=(),
            python_tree="",
            build="/b",
        )
        # Without links nothing is owned: ask for one that needs all objects, and leave it out.
        texts = {one.inputs[0]: Path(one.inputs[0]).read_text() for one in compiles}
        whole = build_graph(
            with_link(capture),
            modules=["all"],
            architectures=None,
            shim="",
            sources=Sources(texts),
            precompile=precompile,
        )
        return Graph(whole.nodes[:-1])

    def run(self, *, precompile: bool, store: str) -> tuple[Made, Graph, Store, Keys]:
        graph = self.graph(precompile=precompile)
        places = Places({"source": f"{self.folder}/src"})
        kept = Store(str(self.folder / store), places=places)
        keys = Keys(kept, places, modules="", path=os.environ["PATH"], salt="")
        temporary = self.folder / f"tmp-{store}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        made = run_graph(
            graph,
            find_work(graph, store=kept, keys=keys),
            store=kept,
            keys=keys,
            seconds={node.name: 1.0 for node in graph.nodes},
            settings=Settings(
                environ={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                temporary=str(temporary),
                log=str(self.folder / "log"),
                width=2,
            ),
            on_progress=lambda _: None,
        )
        return made, graph, kept, keys


def with_link(capture: Capture) -> Capture:
    objects = tuple(one.output for one in capture.compiles)
    return replace(capture, links=(Link("all", objects, "/b/lib/all.so", ("c++",)),))


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    made = Kitchen(tmp_path)
    made.write()
    return made


def test_it_is_used_and_changes_no_byte_of_an_object(kitchen: Kitchen) -> None:
    fast, graph, store, keys = kitchen.run(precompile=True, store="fast")
    slow, _, _, _ = kitchen.run(precompile=False, store="slow")
    assert [one.kind for one in fast.ran.values()].count(HEADER) == 1
    assert not [one for one in fast.ran.values() if one.plain]
    for node in graph.of_kind(CPP):
        assert Path(fast.paths[node.name]).read_bytes() == Path(slow.paths[node.name]).read_bytes()
        # What the header was made of is an input of every object that used it.
        assert f"{kitchen.folder}/include/torch/extension.h" in store.inputs(keys.command(node))
    log = (kitchen.folder / "log").read_text(encoding="utf-8")
    assert log.count("-include") == HEADER_PAYS


def test_a_change_in_the_header_compiles_all_anew_and_in_a_source_only_that(
    kitchen: Kitchen,
) -> None:
    kitchen.run(precompile=True, store="fast")
    made, _, _, _ = kitchen.run(precompile=True, store="fast")
    assert not made.ran
    kitchen.put("src/m1.cpp", SOURCE % 7)
    made, _, _, _ = kitchen.run(precompile=True, store="fast")
    # One source alone does not pay for a header.
    assert [one.label for one in made.ran.values()] == ["all: m1.cpp"]
    kitchen.put("include/torch/extension.h", EXTENSION.replace("2 * x", "3 * x"))
    made, _, _, _ = kitchen.run(precompile=True, store="fast")
    assert len(made.ran) == HEADER_PAYS + 1


def test_a_header_that_reads_the_module_s_name_is_refused_by_gcc_and_done_without(
    kitchen: Kitchen,
) -> None:
    kitchen.write(EXTENSION + "#ifdef TORCH_EXTENSION_NAME\nint only_with_a_name;\n#endif\n")
    made, graph, _, _ = kitchen.run(precompile=True, store="fast")
    slow, _, _, _ = kitchen.run(precompile=False, store="slow")
    for node in graph.of_kind(CPP):
        assert made.ran[node.name].plain
        assert Path(made.paths[node.name]).read_bytes() == Path(slow.paths[node.name]).read_bytes()
