import os
from pathlib import Path

import pytest

from apex_installer.make.freshness import remove_outdated
from apex_installer.make.store import Places, Store, parse_depfile


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("a.o: a.cpp b.h \\\n c.h\n", ("a.cpp", "b.h", "c.h")),
        ("a.o: a\\ b.cpp \\\n  x$$y.h z\\#.h", ("a b.cpp", "x$y.h", "z#.h")),
        ("a.o: a.cpp a.cpp\n\nb.h:\n", ("a.cpp",)),
        # nvcc puts each file on its own line
        (
            "k.o : k.cu \\\n    /usr/include/stdc-predef.h \\\n",
            ("k.cu", "/usr/include/stdc-predef.h"),
        ),
        ("", ()),
    ],
    ids=["gcc", "escapes", "-MP", "nvcc", "empty"],
)
def test_a_depfile_names_what_was_read(text: str, files: tuple[str, ...]) -> None:
    assert parse_depfile(text) == files


PLACES = Places({"torch": "/venv/site/torch", "site": "/venv/site", "source": "/src"})


def test_places_are_inverse_and_the_longest_wins() -> None:
    text = "-I/venv/site/torch/include:/venv/site/x:/src/csrc"
    assert PLACES.encode(text) == "-I{torch}/include:{site}/x:{source}/csrc"
    assert PLACES.decode(PLACES.encode(text)) == text


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "src" / "a.cu"
    file.parent.mkdir()
    file.write_text("one\n", encoding="utf-8")
    os.utime(file, (1_000_000, 1_000_000))
    return file


def store_of(tmp_path: Path, source: Path) -> Store:
    """A new build's view: nothing that an earlier one read is remembered."""
    return Store(str(tmp_path / "objects"), places=Places({"source": str(source.parent)}))


def keep(tmp_path: Path, source: Path, *, since: float = 2_000_000) -> tuple[str, str]:
    made = tmp_path / "made.o"
    made.write_bytes(b"object")
    store = store_of(tmp_path, source)
    command = store.command_key(["nvcc", str(source)], compiler="x")
    return command, store.keep(
        command, made=str(made), inputs=[str(source)], since=since, plain=False
    )


def test_an_object_is_found_while_its_inputs_are_the_same(tmp_path: Path, source: Path) -> None:
    command, path = keep(tmp_path, source)
    assert store_of(tmp_path, source).find(command) == path
    os.utime(source)  # a new time alone changes nothing
    assert store_of(tmp_path, source).find(command) == path
    source.write_text("two\n", encoding="utf-8")
    assert store_of(tmp_path, source).find(command) is None
    source.write_text("one\n", encoding="utf-8")
    assert store_of(tmp_path, source).find(command) == path


def test_an_input_that_is_gone_makes_it_stale(tmp_path: Path, source: Path) -> None:
    command, _ = keep(tmp_path, source)
    source.unlink()
    assert store_of(tmp_path, source).find(command) is None


def test_another_checkout_of_the_same_bytes_finds_it(tmp_path: Path, source: Path) -> None:
    _, path = keep(tmp_path, source)
    other = tmp_path / "other" / "a.cu"
    other.parent.mkdir()
    other.write_text("one\n", encoding="utf-8")
    store = store_of(tmp_path, other)
    assert store.find(store.command_key(["nvcc", str(other)], compiler="x")) == path


def test_another_compiler_or_flag_is_another_command(tmp_path: Path, source: Path) -> None:
    store = store_of(tmp_path, source)
    keys = {
        store.command_key(["nvcc", str(source)], compiler="x"),
        store.command_key(["nvcc", str(source)], compiler="y"),
        store.command_key(["nvcc", "-O3", str(source)], compiler="x"),
    }
    assert len(keys) == 3


def test_a_file_changed_under_the_compiler_is_not_trusted(tmp_path: Path, source: Path) -> None:
    command, path = keep(tmp_path, source, since=900_000)
    assert Path(path).read_bytes() == b"object"
    assert store_of(tmp_path, source).find(command) is None


def test_broken_notes_mean_compile_again(tmp_path: Path, source: Path) -> None:
    command, path = keep(tmp_path, source)
    Path(path).with_name("inputs.json").write_text("{", encoding="utf-8")
    assert store_of(tmp_path, source).find(command) is None


def test_only_the_newest_link_of_a_module_stays(tmp_path: Path) -> None:
    for name in ("old/one.so", "new/one.so", "other/two.so"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(b"")
    remove_outdated(str(tmp_path), kept=[str(tmp_path / "new/one.so")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "other"]
    remove_outdated(str(tmp_path / "absent"), kept=[])
