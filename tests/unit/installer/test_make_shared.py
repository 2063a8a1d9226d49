"""One store for several builds: of other Pythons, at the same time, on another mount."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from apex_installer.make.capture import Capture
from apex_installer.make.freshness import Keys, Work, find_work
from apex_installer.make.graph import CUDA, Graph, Sources, build_graph
from apex_installer.make.store import Places, Store
from apex_installer.model.arch import Architectures
from support import captures

LONG_AGO, LATER = 1_000_000, 2_000_000


@dataclass(frozen=True)
class Build:
    """One Python's build: its own site-packages, headers and copy of the source."""

    folder: Path
    python: str
    objects: Path
    cuda: Path

    @property
    def site(self) -> Path:
        return self.folder / f"lib/python{self.python}/site-packages"

    def prepare(self, *, header: str = "tensor", kernel: str = "kernel") -> Build:
        texts = {
            self.site / "torch/include/torch.h": header,
            self.folder / f"include/python{self.python}/Python.h": self.python,
            self.folder / "src/one_kernel.cu": kernel,
            self.folder / "src/shared.cu": "shared",
            self.folder / "src/one.cpp": "one",
            self.folder / "src/two.cpp": "two",
            self.cuda / "bin/nvcc": "the compiler",
            self.cuda / "bin/c++": "the other",
            self.cuda / "bin/g++": "the linker",
        }
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
            os.utime(path, (LONG_AGO, LONG_AGO))
        return self

    def graph(self) -> Graph:
        return build_graph(
            self._capture(),
            modules=("one", "two"),
            architectures=Architectures.parse("9.0"),
            shim=str(self.folder / "shim"),
            sources=Sources({}),
            precompile=False,
        )

    def _capture(self) -> Capture:
        def moved(text: str) -> str:
            include = f"{self.folder}/include/python{self.python}"
            text = text.replace(captures.PYTHON_INCLUDE, include)
            text = text.replace("-I/torch/", f"-I{self.site}/torch/")
            text = text.replace("/src/", f"{self.folder}/src/")
            text = text.replace("/cuda/", f"{self.cuda}/")
            return text.replace("-311-", f"-{self.python.replace('.', '')}-")

        def all_moved(texts: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(map(moved, texts))

        made = captures.CAPTURE
        return replace(
            made,
            facts={
                **made.facts,
                "python_includes": [moved(captures.PYTHON_INCLUDE)],
            },
            compiles=tuple(
                replace(one, inputs=all_moved(one.inputs), argv=all_moved(one.argv))
                for one in made.compiles
            ),
            links=tuple(
                replace(one, output=moved(one.output), argv=all_moved(one.argv))
                for one in made.links
            ),
        )

    def open(self) -> tuple[Store, Keys]:
        places = Places(
            {
                "torch": str(self.site / "torch"),
                "site": str(self.site),
                "source": str(self.folder / "src"),
                "shim": str(self.folder / "shim"),
                "cuda": str(self.cuda),
            }
        )
        store = Store(str(self.objects), places=places)
        path = str(self.cuda / "bin")
        modules = str(self.folder / "modules")
        return store, Keys(store, places, modules=modules, path=path, salt="torch")

    def make(self) -> None:
        """Keep an object for every compile, as a run would."""
        store, keys = self.open()
        for node in self.graph().nodes:
            if node.source:
                made = self.folder / "made.o"
                made.write_text(f"{node.label} by {self.python}")
                inputs = [node.source, str(self.site / "torch/include/torch.h")]
                if node.kind != CUDA:
                    inputs.append(f"{self.folder}/include/python{self.python}/Python.h")
                command = keys.command(node)
                store.keep(command, made=str(made), inputs=inputs, since=LATER, plain=False)

    def look(self) -> Work:
        store, keys = self.open()
        return find_work(self.graph(), store=store, keys=keys)


@pytest.fixture
def first(tmp_path: Path) -> Build:
    made = Build(tmp_path / "a", "3.11", tmp_path / "objects", tmp_path / "cuda").prepare()
    made.make()
    return made


def another(first: Build, python: str = "3.12", **changed: str) -> Build:
    folder = first.folder.with_name("b")
    return replace(first, folder=folder, python=python).prepare(**changed)


def labels(work: Work) -> list[str]:
    return sorted(node.label for node in work.stale)


CPP = ["one: link", "one: one.cpp", "two: link", "two: two.cpp"]


def test_a_further_python_compiles_no_device_code(first: Build) -> None:
    assert labels(another(first).look()) == CPP


def test_another_cell_of_the_same_python_finds_all_objects_of_the_same_place(first: Build) -> None:
    assert labels(first.look()) == ["one: link", "two: link"]


def test_another_header_of_torch_is_another_object(first: Build) -> None:
    further = another(first, header="another tensor")
    assert labels(further.look()) == sorted([*CPP, "one: one_kernel.cu", "one: shared.cu"])


def test_another_source_is_another_object(first: Build) -> None:
    assert labels(another(first, kernel="changed").look()) == sorted([*CPP, "one: one_kernel.cu"])


def test_another_compiler_finds_nothing(first: Build) -> None:
    further = replace(first, folder=first.folder.with_name("b"), python="3.12")
    further.prepare()
    (further.cuda / "bin/nvcc").write_text("a newer compiler")
    assert labels(further.look()) == sorted([*CPP, "one: one_kernel.cu", "one: shared.cu"])


def test_builds_at_the_same_time_find_only_what_is_theirs(tmp_path: Path) -> None:
    """Two texts of one source, by threads of one process id, as two containers may have."""
    wrong: list[str] = []

    def build(text: str) -> None:
        folder = tmp_path / text
        folder.mkdir()
        source = folder / "a.cu"
        source.write_text(text)
        os.utime(source, (LONG_AGO, LONG_AGO))
        for _ in range(100):
            store = Store(str(tmp_path / "objects"), places=Places({"source": str(folder)}))
            command = store.command_key(["nvcc", str(source)], compiler="x")
            made = folder / "made.o"
            made.write_text(f"of {text}")
            store.keep(command, made=str(made), inputs=[str(source)], since=LATER, plain=False)
            found = store.find(command)
            wrong.extend([text] if found and Path(found).read_text() != f"of {text}" else [])

    threads = [threading.Thread(target=build, args=(text,)) for text in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    left = {path.suffix for path in (tmp_path / "objects").rglob("*") if path.is_file()}
    assert left == {".json", ".o"}
    assert len(list((tmp_path / "objects").rglob("*.o"))) == 3


def test_an_object_is_kept_on_another_mount(
    tmp_path: Path, first: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def refuse(source: str, target: str) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    elsewhere = replace(first, objects=tmp_path / "mount")
    elsewhere.make()
    assert labels(elsewhere.look()) == ["one: link", "two: link"]
    assert {path.suffix for path in (tmp_path / "mount").rglob("*") if path.is_file()} == {
        ".json",
        ".o",
    }
