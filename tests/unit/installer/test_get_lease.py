from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import DeadlineError
from apex_installer.get import lease as lease_module
from apex_installer.get.lease import (
    Holder,
    Lease,
    Pace,
    Sight,
    Watch,
    is_known_dead,
    read_holder,
    read_self,
    read_start,
    take_lease,
)
from apex_installer.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = 64 * "a"
QUICK = Pace(heartbeat=0.01, expires=0.15, poll=0.01)
HERE = Holder("pod", "boot", "pid:[1]", 17, "100", "ours")


def take(
    folder: Path,
    *,
    done: Callable[[], bool] = lambda: False,
    seconds: float = 5,
    waited: list[Holder] | None = None,
    pace: Pace = QUICK,
) -> Lease | None:
    return take_lease(
        str(folder),
        KEY,
        is_done=done,
        ends=time.monotonic() + seconds,
        on_wait=(waited if waited is not None else []).append,
        pace=pace,
    )


def leave(folder: Path, holder: Holder, *, number: int = 1) -> Path:
    """A lease of somebody who shows no life."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{KEY}.{number}.lease"
    path.write_text(json.dumps(vars(holder)))
    return path


# -- who is dead ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holder", "start", "dead"),
    [
        (HERE, "100", False),
        (HERE, "", True),
        (HERE, "101", True),  # the process id was given again
        (replace(HERE, boot="another"), "", False),
        (replace(HERE, namespace="pid:[2]"), "", False),
        (replace(HERE, host="another"), "", False),
    ],
)
def test_dead_is_who_can_be_known_to_be(holder: Holder, start: str, dead: bool) -> None:
    assert is_known_dead(holder, HERE, start_of=lambda _: start) is dead


def test_without_a_name_for_the_namespace_nobody_is_known_to_be_dead() -> None:
    nameless = replace(HERE, namespace="")
    assert not is_known_dead(nameless, nameless, start_of=lambda _: "")


def test_we_are_alive() -> None:
    here = read_self()
    assert read_start(os.getpid()) == here.started
    assert not is_known_dead(here, here, start_of=read_start)


def test_no_such_process_has_no_start() -> None:
    assert read_start(2**22 + 1) == ""


def test_silence_counts_by_our_own_clock_and_from_the_last_change() -> None:
    now = 0.0
    watch = Watch(30, clock=lambda: now)
    first, second = Sight(1, (5, 1), HERE), Sight(1, (6, 1), HERE)
    said = []
    for now, sight in ((0.0, first), (29.0, first), (30.0, second), (60.0, second), (60.1, second)):  # noqa: B007
        said.append(watch.has_expired(sight))
    assert said == [False, False, False, False, True]


# -- taking it -----------------------------------------------------------------------------------


def test_the_first_gets_it_and_gives_it_back(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    with take(folder) as lease:
        assert isinstance(lease, Lease)
        (path,) = folder.iterdir()
        assert read_holder(str(path)).pid == os.getpid()
    assert list(folder.iterdir()) == []


def test_the_second_waits_and_is_told_for_whom(tmp_path: Path) -> None:
    waited: list[Holder] = []
    with take(tmp_path), pytest.raises(DeadlineError, match=r"another pod .* next start"):
        take(tmp_path, seconds=0.3, waited=waited)
    assert [holder.pid for holder in waited] == [os.getpid()]


def test_the_second_stops_waiting_when_the_result_is_there(tmp_path: Path) -> None:
    waited: list[Holder] = []
    with take(tmp_path):
        assert take(tmp_path, done=lambda: bool(waited), waited=waited) is None


def test_a_sign_of_life_keeps_it(tmp_path: Path) -> None:
    with take(tmp_path), pytest.raises(DeadlineError):
        take(tmp_path, seconds=4 * QUICK.expires)


def test_who_is_known_dead_is_followed_at_once(tmp_path: Path) -> None:
    leave(tmp_path, replace(read_self(), started="1"))
    began = time.monotonic()
    with take(tmp_path, pace=replace(QUICK, expires=1000)):
        assert time.monotonic() - began < 100
        assert (tmp_path / f"{KEY}.2.lease").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}'])
def test_silence_ends_the_lease_of_anybody(tmp_path: Path, content: str) -> None:
    leave(tmp_path, HERE).write_text(content)
    waited: list[Holder] = []
    with take(tmp_path, waited=waited):
        assert len(waited) == 1


def test_nobody_takes_the_number_of_who_was_quicker(tmp_path: Path) -> None:
    """A waiter that saw the first one dead, and looks away while another pod follows it."""
    leave(tmp_path, replace(read_self(), started="1"))
    here = read_self()
    with take(tmp_path):
        assert lease_module._make(str(tmp_path), KEY, 2, here, QUICK) is None
        assert read_holder(str(tmp_path / f"{KEY}.2.lease")).pid == os.getpid()


def test_a_folder_that_shows_an_old_state_for_ever_ends_with_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client may list a folder as it was."""
    with take(tmp_path):
        monkeypatch.setattr(os, "listdir", lambda _: [])
        with pytest.raises(DeadlineError):
            take(tmp_path, seconds=0.2)


def test_a_result_that_came_between_two_looks_gives_it_back(tmp_path: Path) -> None:
    looks = iter([False, True])
    assert take(tmp_path, done=lambda: next(looks)) is None
    assert list(tmp_path.iterdir()) == []


def test_another_key_is_another_lease(tmp_path: Path) -> None:
    (tmp_path / f"{64 * 'b'}.1.lease").write_text(json.dumps(vars(HERE)))
    waited: list[Holder] = []
    with take(tmp_path, waited=waited):
        assert waited == []


def test_a_lease_that_another_made_is_not_given_back(tmp_path: Path) -> None:
    lease = take(tmp_path)
    assert lease is not None
    path = leave(tmp_path, HERE)
    lease.close()
    assert read_holder(str(path)) == HERE


def test_a_folder_that_goes_meanwhile_is_survived_by_the_holder(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    with take(folder):
        (folder / f"{KEY}.1.lease").unlink()
        folder.rmdir()
        time.sleep(3 * QUICK.heartbeat)


def test_and_said_to_the_waiter(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    folder.write_text("a file")
    with pytest.raises(OSError, match="exists"):
        take(folder)
