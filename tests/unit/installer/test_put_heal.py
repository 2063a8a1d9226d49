"""What the next run makes of a swap that was cut off, by what is on the disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import TargetError
from apex_installer.put import advance, move
from apex_installer.put.heal import heal
from apex_installer.put.install import install_wheel
from apex_installer.put.installed import read_installed
from apex_installer.put.intact import record_faults
from apex_installer.put.journal import Journal, read_journal, write_journal
from apex_installer.put.remove import remove
from support.targets import add_foreign, tree
from support.wheels import VERSION, make_wheel, tiny_environment, tiny_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

RECIPE = tiny_recipe()
NEWER = "0.1+20270101.cu130.torch2.11"


class Killed(BaseException):
    """Nothing of ours runs after it, not even an undoing."""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def put(target: Path, version: str = VERSION) -> None:
    made = make_wheel(target.parent / version, version=version)
    install_wheel(
        str(made.path),
        entry=made.entry,
        environment=tiny_environment(target),
        recipe=RECIPE,
        old=read_installed(str(target), RECIPE, (str(target),)),
        put_aside=(target / "apex_extra.py").exists(),
    )


def cut_off(target: Path, *, after: int, version: str | None = NEWER) -> None:
    """Install (or with None remove) and be gone after so many renames of the swap."""
    rename, left = os.rename, [after]

    def counted(source: str, place: str) -> None:
        if "receipt" in place or place.endswith("apex_install.json"):
            return rename(source, place)
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return rename(source, place)

    def run() -> None:
        if version:
            put(target, version)
        else:
            remove(str(target), recipe=RECIPE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", counted)
        patch.setattr("apex_installer.put.swap.undo", _gone)
        with pytest.raises(Killed):
            run()


def _gone(*_: object) -> None:
    raise Killed


def version_in(target: Path) -> str | None:
    found = read_installed(str(target), RECIPE, (str(target),))
    if found is None:
        return None
    assert record_faults(found) == ()
    return found.version


def test_nothing_to_heal_costs_no_lock(target: Path) -> None:
    put(target)
    before = tree(target)
    assert heal(str(target)) is None
    assert heal(str(target / "none")) is None
    assert tree(target) == before


def test_before_the_first_move_it_is_dropped(target: Path) -> None:
    put(target)
    cut_off(target, after=1)
    line = heal(str(target))
    assert line == f"an interrupted change to apex {NEWER} had moved nothing yet and was dropped"
    assert version_in(target) == VERSION
    assert not (target / ".apex-install").exists()


@pytest.mark.parametrize("after", [2, 3, 4, 5, 6, 7])
def test_after_it_it_is_finished(target: Path, after: int) -> None:
    put(target)
    cut_off(target, after=after)
    assert version_in(target) == (NEWER if after == 7 else None)
    assert heal(str(target)) == f"an interrupted change to apex {NEWER} was finished"
    assert version_in(target) == NEWER
    assert not (target / ".apex-install").exists()


def test_a_removal_is_finished(target: Path) -> None:
    put(target)
    cut_off(target, after=2, version=None)
    assert (
        remove(str(target), recipe=RECIPE)
        == f"an interrupted change to apex {VERSION} was finished"
    )
    assert list(target.iterdir()) == []


def test_what_was_only_left_over_is_swept(target: Path) -> None:
    (target / ".apex-install" / "stage-1-abc" / "apex").mkdir(parents=True)
    (target / ".apex-install" / "journal.json.part").write_text("{")
    assert heal(str(target)) is None
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("after", [2, 4])
@pytest.mark.parametrize("version", [NEWER, None], ids=["install", "remove"])
def test_a_package_that_somebody_put_there_since_stays(
    target: Path, after: int, version: str | None
) -> None:
    put(target)
    (target / "apex" / "mine.txt").write_text("mine")
    cut_off(target, after=after if version else 2, version=version)
    theirs = add_foreign(target)
    line = heal(str(target))
    assert line is not None
    assert "was given up: another one is in its place now" in line
    assert all((target / path).read_text() == text for path, text in theirs.items())
    assert (target / ".apex-install" / "kept-1" / "apex" / "mine.txt").read_text() == "mine"
    assert [path.name for path in target.glob("*.dist-info")] == ["apex-0.9.10.dev0.dist-info"]


def test_what_was_put_aside_survives_a_removal_that_is_given_up(target: Path) -> None:
    add_foreign(target)
    put(target)
    saved = tree(target / ".apex-install" / "aside-1")
    cut_off(target, after=2, version=None)
    add_foreign(target, files={"apex/__init__.py": "third = 1\n"}, version="3.0")
    assert "given up" in (heal(str(target)) or "")
    assert heal(str(target)) is None
    assert tree(target / ".apex-install" / "aside-1") == saved
    assert (target / "apex" / "__init__.py").read_text() == "third = 1\n"


def test_killed_while_clearing_away_keeps_a_users_file(target: Path) -> None:
    put(target)
    (target / "apex" / "mine.txt").write_text("mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apex_installer.put.swap.clean", _gone)
        with pytest.raises(Killed):
            put(target, NEWER)
    assert version_in(target) == NEWER
    heal(str(target))
    assert (target / ".apex-install" / "kept-1" / "apex" / "mine.txt").read_text() == "mine"
    assert {path.name for path in (target / ".apex-install").iterdir()} == {"lock", "kept-1"}


def test_an_interrupt_takes_the_swap_back(target: Path) -> None:
    put(target)
    before = tree(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apex_installer.put.swap.mark_done", _interrupt)
        patch.setattr("apex_installer.put.advance.put_in", _interrupt_once())
        with pytest.raises(KeyboardInterrupt):
            put(target, NEWER)
    assert tree(target) == before


def test_an_interrupt_after_the_last_move_does_not(target: Path) -> None:
    put(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apex_installer.put.swap.mark_done", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            put(target, NEWER)
    assert version_in(target) == NEWER
    heal(str(target))
    assert version_in(target) == NEWER
    assert not (target / ".apex-install").exists()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _interrupt_once():  # noqa: ANN202
    real, state = advance.put_in, ["first"]

    def put_in(package: str, destination: str) -> None:
        if state:
            state.clear()
            raise KeyboardInterrupt
        real(package, destination)

    return put_in


# -- the journal itself --------------------------------------------------------------------------

JOURNAL = Journal(
    what="apex 1",
    hide="apex",
    out=("a",),
    old="old-1",
    keep_old=False,
    extras=("x",),
    into=("b",),
    show="apex",
    new="stage-1",
    drop=(),
)


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    write_journal(str(tmp_path), JOURNAL)
    assert read_journal(str(tmp_path), "journal.json") == JOURNAL
    assert read_journal(str(tmp_path), "done.json") is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", json.dumps({"schema": 2, **JOURNAL._asdict(), "more": 1})]
)
def test_one_that_cannot_be_read_is_not_guessed_at(target: Path, text: str) -> None:
    put(target)
    (target / ".apex-install").mkdir()
    (target / ".apex-install" / "journal.json").write_text(text)
    before = tree(target / "apex")
    with pytest.raises(TargetError, match=r"journal\.json cannot be read .* or a newer one"):
        heal(str(target))
    assert tree(target / "apex") == before


# -- folders of an image's lower layer -----------------------------------------------------------


@pytest.fixture
def lower(target: Path) -> Iterator[None]:
    """From here on no folder that exists can be renamed."""
    rename = os.rename
    folders: set[str] = set()

    def refuse(source: str, place: str) -> None:
        if source in folders:
            raise OSError(18, "Invalid cross-device link", source)
        rename(source, place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        put(target)
        folders |= {str(path) for path in target.rglob("*") if path.is_dir()}
        yield


@pytest.mark.usefixtures("lower")
def test_an_upgrade_in_a_container(target: Path) -> None:
    modes = {path.name: path.stat().st_mode for path in (target / "apex").rglob("*")}
    put(target, NEWER)
    assert version_in(target) == NEWER
    assert {path.name: path.stat().st_mode for path in (target / "apex").rglob("*")} == modes
    assert not (target / ".apex-install").exists()


@pytest.mark.usefixtures("lower")
def test_a_removal_in_a_container(target: Path) -> None:
    remove(str(target), recipe=RECIPE)
    assert list(target.iterdir()) == []


@pytest.mark.usefixtures("lower")
def test_the_guard_cannot_be_imported(target: Path) -> None:
    package = target / "apex"
    move.take_away(str(package), str(target / "saved"))
    assert [path.name for path in package.iterdir()] == ["__init__.py"]
    with pytest.raises(ImportError, match="is being replaced by apex-install"):
        exec((package / "__init__.py").read_text())  # noqa: S102
    move.put_in(str(target / "saved"), str(package))
    assert version_in(target) == VERSION


@pytest.mark.usefixtures("lower")
def test_no_empty_folder_can_be_imported_while_it_goes(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty folder is a namespace package to Python; a module of its name comes first."""
    seen = []

    def look_and_remove(path: str, rmdir=os.rmdir) -> None:  # noqa: ANN001
        if path == str(target / "apex"):
            seen.append((target / "apex.py").read_bytes())
        rmdir(path)

    monkeypatch.setattr(os, "rmdir", look_and_remove)
    remove(str(target), recipe=RECIPE)
    assert seen == [move.GUARD]
    assert list(target.iterdir()) == []


def test_a_users_module_of_that_name_is_not_the_guard(target: Path) -> None:
    (target / "apex").mkdir()
    (target / "apex" / "__init__.py").write_bytes(move.GUARD)
    (target / "apex.py").write_text("mine = 1\n")
    move.drop_guard(str(target / "apex"), spare=str(target.parent / "spare"))
    assert [path.name for path in target.iterdir()] == ["apex.py"]
    assert (target / "apex.py").read_text() == "mine = 1\n"


@pytest.mark.usefixtures("lower")
def test_a_swap_that_fails_in_a_container_is_taken_back(target: Path) -> None:
    before = tree(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apex_installer.put.advance.put_in", _interrupt_once())
        with pytest.raises(KeyboardInterrupt):
            put(target, NEWER)
    assert tree(target) == before


def test_a_copy_keeps_modes_mtimes_and_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "file").write_bytes(os.urandom(3_000_000))
    (source / "inner" / "file").chmod(0o640)
    os.utime(source / "inner" / "file", ns=(1, 5_000_000_001))
    (source / "link").symlink_to("inner/file")
    (source / "inner").chmod(0o750)
    move.copy(str(source), str(tmp_path / "copy"))
    assert tree(tmp_path / "copy") == tree(source)
    file = tmp_path / "copy" / "inner" / "file"
    assert (file.stat().st_mode & 0o777, file.stat().st_mtime_ns) == (0o640, 5_000_000_001)
    assert (tmp_path / "copy" / "link").readlink() == Path("inner/file")
    assert (tmp_path / "copy" / "inner").stat().st_mode & 0o777 == 0o750
