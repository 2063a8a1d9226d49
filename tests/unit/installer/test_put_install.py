"""One wheel into a target: whole, or nothing changed."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import CheckError, TargetError, TrustError
from apex_installer.put import install as install_module
from apex_installer.put import workspace as workspace_module
from apex_installer.put.heal import heal
from apex_installer.put.install import install_wheel
from apex_installer.put.installed import Installed, read_installed
from apex_installer.put.remove import remove
from support.targets import FOREIGN_VERSION, add_foreign, tree
from support.wheels import MadeWheel, make_wheel, tiny_environment, tiny_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

RECIPE = tiny_recipe()
NEWER = "0.1+20270101.cu130.torch2.11"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def older(tmp_path: Path) -> MadeWheel:
    return make_wheel(tmp_path / "older")


@pytest.fixture
def newer(tmp_path: Path) -> MadeWheel:
    return make_wheel(tmp_path / "newer", version=NEWER, modules=("amp_C",))


def read(target: Path) -> Installed | None:
    return read_installed(str(target), RECIPE, (str(target),))


def put(
    made: MadeWheel,
    target: Path,
    *,
    put_aside: bool = False,
    check: Callable[[Sequence[str]], None] | None = None,
) -> Installed:
    return install_wheel(
        str(made.path),
        entry=made.entry,
        environment=tiny_environment(target),
        recipe=RECIPE,
        old=read(target),
        put_aside=put_aside,
        check=check,
    )


def assert_whole(target: Path, version: str) -> None:
    import importlib.metadata  # noqa: PLC0415

    found = list(importlib.metadata.distributions(name="apex", path=[str(target)]))
    assert [distribution.version for distribution in found] == [version]
    installed = read(target)
    assert installed is not None
    assert installed.owner == install_module.OURS
    from apex_installer.put.intact import record_faults  # noqa: PLC0415

    assert record_faults(installed) == ()


def test_fresh_leaves_nothing_else(target: Path, older: MadeWheel) -> None:
    installed = put(older, target)
    assert installed.owner == "ours"
    assert_whole(target, older.entry.version)
    tops = {path.name for path in target.iterdir()}
    assert len(tops) == 3
    assert ".apex-install" not in tops


def test_upgrade_takes_the_old_modules_along(
    target: Path, older: MadeWheel, newer: MadeWheel
) -> None:
    put(older, target)
    put(newer, target)
    assert_whole(target, NEWER)
    assert [path.name.partition(".")[0] for path in target.glob("*.so")] == ["amp_C"]
    assert not (target / ".apex-install").exists()


def test_the_same_again_over_a_broken_one(target: Path, older: MadeWheel) -> None:
    put(older, target)
    (target / "apex" / "__init__.py").write_text("broken")
    put(older, target)
    assert_whole(target, older.entry.version)


def test_a_users_file_is_kept_and_said(target: Path, older: MadeWheel, newer: MadeWheel) -> None:
    put(older, target)
    (target / "apex" / "mine.txt").write_text("mine")
    (target / "apex" / "__pycache__").mkdir()
    (target / "apex" / "__pycache__" / "x.pyc").touch()
    installed = put(newer, target)
    kept = target / ".apex-install" / "kept-1" / "apex" / "mine.txt"
    assert kept.read_text() == "mine"
    assert [path.name for path in kept.parent.iterdir()] == ["mine.txt"]
    assert f"kept in {kept.parents[1]}" in installed.notes[0]
    assert "apex/mine.txt" in installed.notes[0]


def test_what_stands_in_the_way_is_kept_too(target: Path, older: MadeWheel) -> None:
    module = older.entry.modules[0].file
    (target / module).write_bytes(b"somebody's")
    (target / "apex").mkdir()
    (target / "apex" / "notes.txt").write_text("mine")
    (target / "apex-9.9.dist-info").mkdir()
    installed = put(older, target)
    assert_whole(target, older.entry.version)
    kept = target / ".apex-install" / "kept-1"
    assert tree(kept).keys() == {module, "apex/notes.txt"}
    assert "kept in" in installed.notes[0]


def test_a_check_that_fails_changes_nothing(target: Path, older: MadeWheel) -> None:
    add_foreign(target)
    before = tree(target)

    def check(paths: Sequence[str]) -> None:
        assert [os.path.basename(p) for p in paths] == [older.entry.modules[0].file]  # noqa: PTH119
        assert all(os.path.isfile(path) for path in paths)  # noqa: PTH113
        raise CheckError("symbol check: no")

    with pytest.raises(CheckError):
        put(older, target, put_aside=True, check=check)
    assert tree(target) == before


@pytest.mark.parametrize("fault", ["record-wrong-hash", "path-outside", "not-a-zip", "symlink"])
def test_bad_bytes_change_nothing(fault: str, target: Path, tmp_path: Path) -> None:
    add_foreign(target)
    before = tree(target)
    with pytest.raises(TrustError):
        put(make_wheel(tmp_path / "bad", fault=fault), target, put_aside=True)
    assert tree(target) == before


# -- foreign packages ----------------------------------------------------------------------------


def test_a_foreign_one_is_put_aside_whole_and_brought_back(target: Path, older: MadeWheel) -> None:
    add_foreign(target)
    (target / "apex" / "mine.txt").write_text("mine")
    before = tree(target)
    put(older, target, put_aside=True)
    assert_whole(target, older.entry.version)
    assert not (target / "apex_extra.py").exists()
    line = remove(str(target), recipe=RECIPE)
    assert "what was there before is back" in line
    assert tree(target) == before
    assert not (target / ".apex-install").exists()


def test_it_is_brought_back_after_upgrades_too(
    target: Path, older: MadeWheel, newer: MadeWheel
) -> None:
    add_foreign(target)
    before = tree(target)
    put(older, target, put_aside=True)
    put(newer, target)
    remove(str(target), recipe=RECIPE)
    assert tree(target) == before


def test_files_of_others_in_a_shared_folder_stay(target: Path, older: MadeWheel) -> None:
    files = {"apex/__init__.py": "", "shared/ours.py": "1", "single.py": "2"}
    add_foreign(target, files=files)
    (target / "shared" / "theirs.py").write_text("3")
    before = tree(target)
    put(older, target, put_aside=True)
    assert (target / "shared" / "theirs.py").exists()
    assert not (target / "shared" / "ours.py").exists()
    remove(str(target), recipe=RECIPE)
    assert tree(target) == before


def test_bringing_back_overwrites_nothing(target: Path, older: MadeWheel) -> None:
    add_foreign(target)
    put(older, target, put_aside=True)
    (target / "apex_extra.py").write_text("new since then")
    line = remove(str(target), recipe=RECIPE)
    assert (target / "apex_extra.py").read_text() == "value = 1\n"
    kept = target / ".apex-install" / "kept-1" / "apex_extra.py"
    assert kept.read_text() == "new since then"
    assert "kept in" in line


def test_a_record_that_points_outside_moves_nothing_there(
    target: Path, older: MadeWheel, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("mine")
    add_foreign(target, files={"apex/__init__.py": ""})
    record = target / f"apex-{FOREIGN_VERSION}.dist-info" / "RECORD"
    record.write_text(
        record.read_text() + f"../precious,,\n{tmp_path}/precious,,\na/../../precious,,\n"
    )
    put(older, target, put_aside=True)
    remove(str(target), recipe=RECIPE)
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_module_in_place_of_a_package(target: Path, older: MadeWheel) -> None:
    add_foreign(target, files={"apex.py": "x = 1\n"})
    before = tree(target)
    put(older, target, put_aside=True)
    assert_whole(target, older.entry.version)
    remove(str(target), recipe=RECIPE)
    assert tree(target) == before


def test_one_behind_the_target_is_not_touched(
    target: Path, older: MadeWheel, tmp_path: Path
) -> None:
    add_foreign(tmp_path / "system")
    before = tree(tmp_path / "system")
    old = read_installed(str(target), RECIPE, (str(target), str(tmp_path / "system")))
    install_wheel(
        str(older.path),
        entry=older.entry,
        environment=tiny_environment(target),
        recipe=RECIPE,
        old=old,
        put_aside=True,
    )
    assert_whole(target, older.entry.version)
    assert tree(tmp_path / "system") == before


# -- remove --------------------------------------------------------------------------------------


def test_remove_leaves_an_empty_target(target: Path, older: MadeWheel) -> None:
    put(older, target)
    assert (
        remove(str(target), recipe=RECIPE)
        == f"apex {older.entry.version} was removed from {target}"
    )
    assert list(target.iterdir()) == []


def test_remove_keeps_a_users_file(target: Path, older: MadeWheel) -> None:
    put(older, target)
    (target / "apex" / "mine.txt").write_text("mine")
    assert "kept in" in remove(str(target), recipe=RECIPE)
    assert (target / ".apex-install" / "kept-1" / "apex" / "mine.txt").read_text() == "mine"


def test_nothing_to_remove(target: Path) -> None:
    with pytest.raises(TargetError, match=f"no apex in {target}"):
        remove(str(target), recipe=RECIPE)
    assert list(target.iterdir()) == []


def test_only_ours_is_removed(target: Path) -> None:
    add_foreign(target)
    before = tree(target)
    with pytest.raises(TargetError, match="was installed by pip: remove it with that"):
        remove(str(target), recipe=RECIPE)
    assert tree(target) == before


# -- two at once ---------------------------------------------------------------------------------


def test_another_run_was_quicker_with_the_same(target: Path, older: MadeWheel) -> None:
    before = read(target)
    first = put(older, target)
    inode = (target / "apex").stat().st_ino
    again = install_wheel(
        str(older.path),
        entry=older.entry,
        environment=tiny_environment(target),
        recipe=RECIPE,
        old=before,
    )
    assert again.dist_info == first.dist_info
    assert (target / "apex").stat().st_ino == inode


def test_somebody_else_was_quicker(target: Path, older: MadeWheel) -> None:
    before = read(target)
    add_foreign(target)
    state = tree(target)
    with pytest.raises(TargetError, match="changed by another program just now; run again"):
        install_wheel(
            str(older.path),
            entry=older.entry,
            environment=tiny_environment(target),
            recipe=RECIPE,
            old=before,
        )
    assert tree(target) == state


def test_a_lock_that_is_held_is_waited_for_and_then_said(
    target: Path, older: MadeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        workspace_module.Workspace.__init__,
        "__kwdefaults__",
        {"seconds": 0.1, "pause": lambda _: None},
    )
    (target / ".apex-install").mkdir()
    with (target / ".apex-install" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TargetError, match=r"another apex-install has been at work in"):
            put(older, target)
    put(older, target)
    assert_whole(target, older.entry.version)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    code: int, target: Path, older: MadeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    put(older, target)
    assert_whole(target, older.entry.version)


# -- a target that cannot be written -------------------------------------------------------------


def test_no_room(target: Path, older: MadeWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 1000, 100, 100, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(TargetError, match=r"no disk: .* has 0 MB free, the install needs 4 MB"):
        put(older, target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("function", ["mkdir", "open", "write", "rename", "utime"])
@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "--target DIR"),
        (errno.EIO, "say --target DIR elsewhere"),
    ],
    ids=["full", "read-only", "broken"],
)
def test_failing_at_every_call_changes_nothing(
    code: int, says: str, function: str, target: Path, older: MadeWheel, newer: MadeWheel
) -> None:
    """The N-th call fails, for N = 1, 2, … until a run has no failure."""
    put(older, target)
    before = tree(target)
    real, number = getattr(os, function), 0
    while True:
        number += 1
        calls = [number]

        def fail(*arguments: object, calls: list[int] = calls, **named: object) -> object:
            place = str(arguments[0])
            read_only = function == "open" and not int(arguments[1]) & os.O_CREAT
            if not read_only and (function in ("write", "utime") or "/target" in place):
                calls[0] -= 1
                if calls[0] == 0:
                    raise OSError(code, os.strerror(code), place)
            return real(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, function, fail)
            try:
                put(newer, target)
            except TargetError as error:
                assert says in str(error)  # noqa: PT017
            else:
                break
        if read(target).version == NEWER:
            heal(str(target))
            break
        assert heal(str(target)) is None, number
        assert tree(target) == before, number
    assert number > 1
    assert_whole(target, NEWER)


def test_a_target_that_is_not_there(tmp_path: Path, older: MadeWheel) -> None:
    with pytest.raises(TargetError, match="No such file"):
        install_wheel(
            str(older.path),
            entry=older.entry,
            environment=replace(tiny_environment(tmp_path), target=str(tmp_path / "none")),
            recipe=RECIPE,
            old=None,
        )
