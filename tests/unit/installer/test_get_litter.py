from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from apex_installer.get import litter
from apex_installer.get.cache import Cache, CacheLocation
from apex_installer.get.litter import DAY, collect, is_due

SHA = 64 * "a"
KEY = 64 * "b"
LITTER = {
    f"wheels/{SHA}.part": 1.1 * DAY,
    f"wheels/{SHA}.part.17-abcd": 1.1 * DAY,
    f"wheels/{SHA}/": 1.1 * DAY,
    f"compiled/{KEY}.json.part.17-abcd": 1.1 * DAY,
    f"documents/{KEY}.json.part.17-abcd": 1.1 * DAY,
    f"leases/{KEY}.1.lease": 1.1 * DAY,
    f"failures/{KEY}.json": 8 * DAY,
    f"files/{SHA}.part.17-abcd": 1.1 * DAY,
    f"files/{SHA}/": 1.1 * DAY,
}
WHOLE = {
    f"wheels/{KEY}/apex.whl": 900 * DAY,
    f"compiled/{KEY}.json": 900 * DAY,
    f"documents/{KEY}.json": 900 * DAY,
    f"failures/{SHA}.json": 6 * DAY,
    f"files/{KEY}/cuda_nvcc.tar.xz": 900 * DAY,
    f"leases/{KEY}.2.lease": 0.9 * DAY,
    f"wheels/{KEY}.part": 0.9 * DAY,
}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(CacheLocation(str(tmp_path), "test", outlives_pod=True), environ={})


def lay(root: Path, things: dict[str, float]) -> None:
    now = time.time()
    for name, age in things.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
            path = root.joinpath(*path.relative_to(root).parts[:2])
        else:
            path.write_text(name)
        os.utime(path, (now - age, now - age))


def test_litter_goes_and_what_is_whole_or_in_use_stays(cache: Cache, tmp_path: Path) -> None:
    lay(tmp_path, LITTER)
    lay(tmp_path, WHOLE)
    assert collect(cache) == len(LITTER)
    assert not [name for name in LITTER if (tmp_path / name).exists()]
    assert [name for name in WHOLE if not (tmp_path / name).exists()] == []


def test_it_is_due_once_a_day(cache: Cache, tmp_path: Path) -> None:
    assert is_due(cache)
    collect(cache)
    assert not is_due(cache)
    lay(tmp_path, {"collected": 1.1 * DAY})
    assert is_due(cache)


def test_a_stamp_from_the_future_is_not_believed(cache: Cache, tmp_path: Path) -> None:
    lay(tmp_path, {"collected": -1000 * DAY})
    assert is_due(cache)


def test_it_is_not_due_where_nothing_is(tmp_path: Path) -> None:
    nowhere = CacheLocation(str(tmp_path / "nowhere"), "test", outlives_pod=False)
    assert not is_due(Cache(nowhere, environ={}))
    assert not (tmp_path / "nowhere").exists()


def test_the_work_is_bounded(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litter, "MOST", 10)
    lay(tmp_path, {f"leases/{number}.1.lease": 2 * DAY for number in range(30)})
    assert collect(cache) == 10


def test_and_so_is_its_time(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litter, "SECONDS", -1.0)
    lay(tmp_path, LITTER)
    assert collect(cache) == 0


def test_a_volume_that_cannot_be_written_is_left_alone(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: str) -> float:
        raise OSError(30, "Read-only file system")

    lay(tmp_path, LITTER)
    monkeypatch.setattr(litter, "_touch", refuse)
    assert collect(cache) == 0
