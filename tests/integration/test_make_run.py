"""The executor with a compiler of ours, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from apex_installer.errors import CompileError, DeadlineError
from apex_installer.make.freshness import Keys, Work, find_work
from apex_installer.make.graph import CUDA, LINK, Graph, Node
from apex_installer.make.progress import Progress
from apex_installer.make.run import Made, Settings, run_graph
from apex_installer.make.slots import Slots
from apex_installer.make.store import Places, Store
from support.fake_compiler import write_fake_compiler

pytestmark = pytest.mark.integration


class Bench:
    """Sources, a compiler, a store, and a graph: one module per `name -> sources`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "src"
        self.source.mkdir()
        self.compiler = write_fake_compiler(folder)
        self.started = folder / "started"
        self.seen: list[Progress] = []
        self.log = folder / "log"

    def write(self, name: str, text: str) -> None:
        path = self.source / name
        path.write_text(text, encoding="utf-8")
        os.utime(path, (1_000_000, 1_000_000))

    def graph(self, modules: dict[str, list[str]], *, codes: tuple[str, ...] = ()) -> Graph:
        objects: dict[str, Node] = {}
        links = []
        for module, names in modules.items():
            needs = []
            for name in names:
                out, source = f"/b/{name}.o", str(self.source / name)
                plain = (str(self.compiler), "-MF", f"{out}.d", "-c", source, "-o", out, *codes)
                slim = (*plain, "-DSLIM")
                objects.setdefault(out, Node(out, CUDA, slim, source, (), module, plain=plain))
                needs.append(out)
            out = f"/b/{module}.so"
            argv = (str(self.compiler), *needs, "-o", out)
            links.append(Node(out, LINK, argv, needs=tuple(needs), module=module))
        return Graph((*objects.values(), *links))

    def run(
        self,
        modules: dict[str, list[str]],
        *,
        width: int = 2,
        seconds: float | None = None,
        codes: tuple[str, ...] = (),
        slots: Path | None = None,
    ) -> Made:
        graph = self.graph(modules, codes=codes)
        places = Places({"source": str(self.source)})
        store = Store(str(self.folder / "objects"), places=places)
        keys = Keys(store, places, modules=str(self.folder / "modules"), path="/bin", salt="")
        self.work: Work = find_work(graph, store=store, keys=keys)
        self.started.write_text("", encoding="utf-8")
        temporary = self.folder / f"tmp-{time.monotonic_ns()}"
        temporary.mkdir()
        return run_graph(
            graph,
            self.work,
            store=store,
            keys=keys,
            seconds={node.name: 1.0 for node in graph.nodes},
            settings=Settings(
                environ={"PATH": "/usr/bin:/bin", "STARTED": str(self.started)},
                temporary=str(temporary),
                log=str(self.log),
                width=width,
                slots=None if slots is None else str(slots),
                ends_at=None if seconds is None else time.monotonic() + seconds,
            ),
            on_progress=self.seen.append,
        )

    @property
    def starts(self) -> list[str]:
        return sorted(self.started.read_text(encoding="utf-8").split("\n")[:-1])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    for name in ("a.cu", "b.cu", "c.cu"):
        made.write(name, f"{name}\n")
    return made


TWO = {"one": ["a.cu", "b.cu"], "two": ["b.cu", "c.cu"]}


def test_each_object_is_made_once_and_each_module_linked(bench: Bench) -> None:
    made = bench.run(TWO)
    assert bench.starts == ["link", "link", "slim a.cu", "slim b.cu", "slim c.cu"]
    assert Path(made.paths["/b/one.so"]).read_text() == "a.cu\nb.cu\n"
    assert Path(made.paths["/b/two.so"]).read_text() == "b.cu\nc.cu\n"
    assert bench.seen[-1].done == bench.seen[-1].total == 5


def test_nothing_changed_starts_nothing(bench: Bench) -> None:
    first = bench.run(TWO)
    again = bench.run(TWO)
    assert bench.starts == []
    assert again.paths == first.paths


def test_one_line_changed_makes_one_object_and_one_link(bench: Bench) -> None:
    bench.run(TWO)
    bench.write("a.cu", "another line\n")
    made = bench.run(TWO)
    assert bench.starts == ["link", "slim a.cu"]
    assert Path(made.paths["/b/one.so"]).read_text() == "another line\nb.cu\n"


def test_code_that_needs_python_is_compiled_as_captured(bench: Bench) -> None:
    bench.write("a.cu", "NEEDS_PYTHON\n")
    made = bench.run({"one": ["a.cu"]})
    assert bench.starts == ["a.cu", "link", "slim a.cu"]
    assert made.ran["/b/a.cu.o"].plain
    bench.run({"one": ["a.cu"]})
    assert bench.starts == []


def test_the_first_error_is_shown_and_what_was_made_is_kept(bench: Bench) -> None:
    bench.write("b.cu", "BROKEN\n")
    with pytest.raises(CompileError) as failed:
        bench.run(TWO, width=1)
    assert str(failed.value) == (
        f"one: b.cu: {bench.source}/b.cu:7: 'broken' was not declared; see {bench.log}"
    )
    assert "1 error" in bench.log.read_text(encoding="utf-8")
    bench.write("b.cu", "mended\n")
    bench.run(TWO, width=1)
    assert "slim a.cu" not in bench.starts


def test_a_compiler_ended_for_memory_is_tried_again_alone(bench: Bench) -> None:
    bench.write("a.cu", "STARVES\n")
    bench.run({"one": ["a.cu"]})
    assert bench.starts == ["link", "slim a.cu", "slim a.cu"]


def test_a_long_object_s_architectures_are_compiled_at_once_in_as_many_places(
    bench: Bench,
) -> None:
    codes = tuple(f"-gencode=arch=compute_{one},code=sm_{one}" for one in (80, 86, 90))
    alone = bench.run({"one": ["a.cu"]}, width=4, codes=codes)
    assert alone.ran["/b/a.cu.o"].threads == 3
    assert "--threads=3" in bench.log.read_text(encoding="utf-8")
    # The same command for the store: nothing is compiled again where the places are fewer.
    bench.run({"one": ["a.cu"]}, width=1, codes=codes)
    assert bench.starts == []
    made = bench.run({"one": ["b.cu", "c.cu"]}, width=4, codes=codes)
    assert {made.ran[f"/b/{name}.cu.o"].threads for name in "bc"} == {1, 3}


def gone(pids: list[int]) -> bool:
    """Whether none of them runs; a zombie that nobody has buried yet does not."""
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        except OSError:
            continue
        if state.split()[0] != "Z":
            return False
    return True


def test_at_a_time_out_the_whole_tree_is_gone(bench: Bench) -> None:
    bench.write("a.cu", "HANGS\n")
    with pytest.raises(DeadlineError, match="ran out with 3 of 5 steps done"):
        bench.run(TWO, width=3, seconds=2)
    pids = [int(line) for line in Path(f"{bench.started}.pids").read_text().split()]
    assert pids
    assert gone(pids)


def test_a_build_waits_for_the_width_that_others_have(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write("a.cu", "1\n")
    others = Slots(str(tmp_path / "slots"), 2)
    held, shared = others.take(2), {"slots": tmp_path / "slots"}
    thread = threading.Thread(target=bench.run, args=({"one": ["a.cu"]},), kwargs=shared)
    thread.start()
    time.sleep(0.5)
    assert bench.starts == []
    others.give_back(held)
    thread.join(timeout=30)
    assert len(bench.starts) == 2
    assert len(others.take(2)) == 2, "a build that has ended holds nothing"


_HOLDING = """
import sys, time
from apex_installer.make.slots import Slots
print(len(Slots(sys.argv[1], 2).take(2)), flush=True)
time.sleep(60)
"""


def test_a_build_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    slots = Slots(str(tmp_path), 2)
    command = [sys.executable, "-c", _HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "2\n"
        assert len(slots.take(1)) == 0
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        assert len(slots.take(2)) == 2


_HANGING = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a CI in the background ignores it
from test_make_run import Bench
from apex_installer.make.process import signals_as_exceptions
bench = Bench(Path(sys.argv[1]))
bench.write("a.cu", "HANGS\\n")
with signals_as_exceptions():
    bench.run({{"one": ["a.cu"]}})
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_the_whole_tree(tmp_path: Path, number: signal.Signals) -> None:
    path = [str(Path(__file__).parent), *sys.path]
    code = _HANGING.format(path=path)
    pids_file = tmp_path / "started.pids"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL
    ) as process:
        give_up = time.monotonic() + 30
        while not (pids_file.exists() and pids_file.read_text()) and time.monotonic() < give_up:
            time.sleep(0.05)
        process.send_signal(number)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()  # leaving the block would wait for it for ever
    pids = [int(line) for line in pids_file.read_text().split()]
    assert pids
    assert gone(pids)
