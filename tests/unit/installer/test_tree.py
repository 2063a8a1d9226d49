"""Whom a mark finds, in a /proc of files: nothing but its own."""

import os
from pathlib import Path

import pytest

from apex_installer.make import tree
from apex_installer.make.tree import VARIABLE, end_marked, find_marked

MARK = "0123456789abcdef-1-"
US = os.getpid()
INIT, ABOVE, OTHER, MINE, CHILD = 1, 900_001, 900_002, 900_003, 900_004


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Init, a shell above us, we, and a stranger; the group of all is 0, as in a container."""
    put(tmp_path, INIT, parent=0)
    put(tmp_path, ABOVE, parent=INIT)
    put(tmp_path, US, parent=ABOVE)
    put(tmp_path, OTHER, parent=0)
    put(tmp_path, OTHER + 100, parent=ABOVE)
    put(tmp_path, OTHER + 101, parent=US)
    (tmp_path / "sys").mkdir()
    return tmp_path


def put(
    proc: Path, pid: int, *, parent: int, marks: str = "", state: str = "S", name: str = "x"
) -> None:
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / f"{pid}/stat").write_text(f"{pid} ({name}) {state} {parent} 0 0 0 -1 4194560\n")
    environ = f"HOME=/\0{VARIABLE}={marks}\0PATH=/bin\0" if marks else "HOME=/\0"
    (proc / f"{pid}/environ").write_text(environ)


def find(proc: Path, mark: str = MARK) -> set[int]:
    return find_marked(mark, root=str(proc))


def test_nobody_without_a_mark(proc: Path) -> None:
    assert find(proc) == set()


@pytest.mark.parametrize("marks", [f"{MARK}7;", f"fedcba9876543210-3-4; {MARK}7;"])
def test_who_bears_it_and_the_children(proc: Path, marks: str) -> None:
    put(proc, MINE, parent=INIT, marks=marks)
    put(proc, CHILD, parent=MINE)
    put(proc, CHILD + 1, parent=CHILD)
    assert find(proc) == {MINE, CHILD, CHILD + 1}


@pytest.mark.parametrize(
    "marks", ["0123456789abcdef-11-7;", "0123456789abcdef-", f"x{MARK}7;", f"A={MARK}7;"]
)
def test_not_who_bears_another(proc: Path, marks: str) -> None:
    put(proc, MINE, parent=INIT, marks=marks)
    assert find(proc) == set()


def test_not_where_another_variable_says_it(proc: Path) -> None:
    put(proc, MINE, parent=INIT)
    (proc / f"{MINE}/environ").write_text(f"X{VARIABLE}={MARK}\0A={VARIABLE}={MARK}\0")
    assert find(proc) == set()


@pytest.mark.parametrize("pid", [INIT, ABOVE, US])
def test_never_init_nor_us_nor_one_above_us(proc: Path, pid: int) -> None:
    put(proc, pid, parent={INIT: 0, ABOVE: INIT, US: ABOVE}[pid], marks=f"{MARK}7;")
    put(proc, MINE, parent=INIT, marks=f"{MARK}8;")
    found = find(proc)
    assert found == {MINE}, "not even what is below them"


def test_never_a_parent_outside_the_container(proc: Path) -> None:
    """It is told as 0, as is its group: to kill 0 would end our own."""
    put(proc, MINE, parent=0, marks=f"{MARK}7;")
    put(proc, 0, parent=0, marks=f"{MARK}7;")
    assert find(proc) == {MINE}


def test_not_who_waits_to_be_buried(proc: Path) -> None:
    put(proc, MINE, parent=INIT, marks=f"{MARK}7;", state="Z")
    assert find(proc) == set()


@pytest.mark.parametrize("name", ["a) Z 1 1 (b", "sh -c (x)", ") ) )", "a\nb"])
def test_a_name_may_hold_anything(proc: Path, name: str) -> None:
    put(proc, MINE, parent=INIT, marks=f"{MARK}7;", name=name)
    put(proc, CHILD, parent=MINE, name=name)
    assert find(proc) == {MINE, CHILD}


def test_what_ends_meanwhile_or_may_not_be_read_is_nobody(proc: Path) -> None:
    put(proc, MINE, parent=INIT, marks=f"{MARK}7;")
    (proc / f"{MINE}/environ").unlink()
    put(proc, CHILD, parent=INIT, marks=f"{MARK}7;")
    (proc / f"{CHILD}/stat").unlink()
    assert find(proc) == set()


def test_without_proc_nobody_is_found(tmp_path: Path) -> None:
    assert find(tmp_path / "none") == set()


@pytest.mark.parametrize("mark", ["", "1", "0123456789abcde"])
def test_a_mark_that_could_be_anybody_s_is_refused(proc: Path, mark: str) -> None:
    with pytest.raises(ValueError, match="is no mark of a tree"):
        find(proc, mark)


def test_only_who_was_found_is_killed(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(proc, MINE, parent=INIT, marks=f"{MARK}7;")
    killed: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        killed.append((pid, number))
        put(proc, MINE, parent=INIT, state="Z")

    monkeypatch.setattr(tree.os, "kill", kill)
    assert end_marked(MARK, root=str(proc))
    assert killed == [(MINE, 9)]


def test_what_cannot_be_killed_is_left(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(proc, MINE, parent=INIT, marks=f"{MARK}7;", state="D")
    monkeypatch.setattr(tree.os, "kill", lambda *_: None)
    assert not end_marked(MARK, root=str(proc), seconds=0.05)
