"""Builds at the same time share their width, and no slot is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apex_installer.make.slots import Slots

if TYPE_CHECKING:
    from pathlib import Path


def test_two_builds_have_no_more_than_one_could(tmp_path: Path) -> None:
    one, two = Slots(str(tmp_path), 3), Slots(str(tmp_path), 3)
    held = one.take(2)
    assert (len(held), len(two.take(2)), len(one.take(1))) == (2, 1, 0)
    one.give_back(held)
    assert len(two.take(9)) == 2


def test_what_is_closed_is_free(tmp_path: Path) -> None:
    one, two = Slots(str(tmp_path), 2), Slots(str(tmp_path), 2)
    one.take(2)
    one.close()
    assert (len(one.take(2)), len(two.take(2))) == (0, 2)


def test_a_build_alone_takes_what_it_wants(tmp_path: Path) -> None:
    alone = Slots(None, 1)
    assert len(alone.take(5)) == 5
    alone.give_back(alone.take(5))
    alone.close()
    assert list(tmp_path.iterdir()) == []
