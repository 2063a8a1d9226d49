from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from apex_installer.get import whole
from apex_installer.get.cache import Cache, CacheLocation
from apex_installer.get.results import (
    find_result,
    forget_result,
    keep_result,
    kept_results,
    result_path,
)
from support.wheels import MadeWheel, make_wheel


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(CacheLocation(str(tmp_path / "cache"), "test", outlives_pod=True), environ={})


def made(folder: Path, **how: object) -> MadeWheel:
    return make_wheel(folder, version="0.1+20260708.cu130.torch2.11.norm.sm90", **how)


def other_bytes(folder: Path, same: MadeWheel) -> MadeWheel:
    """What another pod made of the same key."""
    return made(folder, python_files={"apex/__init__.py": "# other"}, key=same.entry.key)


def keep(cache: Cache, wheel: MadeWheel) -> tuple[str, str]:
    path, entry = keep_result(cache, str(wheel.path), wheel.entry)
    return path, entry.sha256


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_is_found_by_key(cache: Cache, tmp_path: Path) -> None:
    wheel = made(tmp_path)
    assert find_result(cache, wheel.entry.key) is None
    path, _ = keep(cache, wheel)
    assert find_result(cache, wheel.entry.key) == (path, wheel.entry)
    assert kept_results(cache) == (wheel.entry,)
    assert Path(path).read_bytes() == wheel.path.read_bytes()


def test_the_second_of_two_drops_its_own(cache: Cache, tmp_path: Path) -> None:
    wheel = made(tmp_path / "a")
    first = keep(cache, wheel)
    before = names(tmp_path / "cache")
    assert keep(cache, other_bytes(tmp_path / "b", wheel)) == first
    assert names(tmp_path / "cache") == before
    assert len(list((tmp_path / "cache/wheels").iterdir())) == 1


def test_also_where_both_found_nothing_before(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one publishes while the second copies its own."""
    wheel = made(tmp_path / "a")
    link = os.link

    def first_is_quicker(part: str, path: str) -> None:
        monkeypatch.setattr(whole.os, "link", link)
        keep(cache, wheel)
        link(part, path)

    monkeypatch.setattr(whole.os, "link", first_is_quicker)
    assert keep(cache, other_bytes(tmp_path / "b", wheel))[1] == wheel.entry.sha256
    assert [entry.sha256 for entry in kept_results(cache)] == [wheel.entry.sha256]
    assert len(list((tmp_path / "cache/wheels").iterdir())) == 1


def test_without_links_it_is_kept_all_the_same(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_part: str, _path: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(whole.os, "link", refuse)
    wheel = made(tmp_path / "a")
    first = keep(cache, wheel)
    assert keep(cache, other_bytes(tmp_path / "b", wheel)) == first
    assert not [name for name in names(tmp_path / "cache") if ".part" in name]


@pytest.mark.parametrize("content", ["", "{}", "not JSON"])
def test_an_entry_that_cannot_be_read_is_replaced(
    cache: Cache, tmp_path: Path, content: str
) -> None:
    wheel = made(tmp_path)
    path = Path(result_path(cache, wheel.entry.key) or "")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert kept_results(cache) == ()
    keep(cache, wheel)
    assert json.loads(path.read_text())["key"] == wheel.entry.key


def test_an_entry_without_its_wheel_is_replaced(cache: Cache, tmp_path: Path) -> None:
    wheel = made(tmp_path / "a")
    Path(keep(cache, wheel)[0]).write_bytes(b"bad")
    assert find_result(cache, wheel.entry.key) is None
    newer = other_bytes(tmp_path / "b", wheel)
    assert keep(cache, newer)[1] == newer.entry.sha256
    assert find_result(cache, wheel.entry.key) is not None


def test_an_entry_under_another_key_is_not_its_result(cache: Cache, tmp_path: Path) -> None:
    wheel = made(tmp_path)
    keep(cache, wheel)
    folder = tmp_path / "cache/compiled"
    next(folder.iterdir()).rename(folder / f"{64 * 'b'}.json")
    assert find_result(cache, 64 * "b") is None


def test_forgotten_is_gone(cache: Cache, tmp_path: Path) -> None:
    wheel = made(tmp_path)
    keep(cache, wheel)
    forget_result(cache, wheel.entry.key)
    assert kept_results(cache) == ()


def test_what_others_may_have_put_there_is_not_taken(cache: Cache, tmp_path: Path) -> None:
    wheel = made(tmp_path)
    keep(cache, wheel)
    (tmp_path / "cache/compiled").chmod(0o777)
    assert (kept_results(cache), find_result(cache, wheel.entry.key)) == ((), None)


def test_a_disk_that_fills_up_leaves_nothing_half(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(source: str, target: str) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", half)
    with pytest.raises(OSError, match="No space"):
        keep(cache, made(tmp_path))
    assert names(tmp_path / "cache") == []
