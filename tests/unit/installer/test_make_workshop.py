import os
from pathlib import Path

import pytest

from apex_installer.errors import DeadlineError
from apex_installer.make.graph import EXTENSION
from apex_installer.make.workshop import open_workshop
from support.jobs import make_request


def test_what_is_private_is_removed_on_every_way_out(tmp_path: Path) -> None:
    request = make_request(work=str(tmp_path / "work"))
    seen = []

    def fail() -> None:
        with open_workshop(request, log=str(tmp_path / "log")) as shop:
            seen.append(shop)
            assert Path(shop.private).is_dir()
            raise DeadlineError("late")

    with pytest.raises(DeadlineError):
        fail()
    (shop,) = seen
    assert not Path(shop.private).exists()
    assert (Path(shop.shim) / EXTENSION).is_file()


def test_the_shim_keeps_its_time(tmp_path: Path) -> None:
    request = make_request(work=str(tmp_path / "work"))
    times = set()
    for _ in range(2):
        with open_workshop(request, log=str(tmp_path / "log")) as shop:
            shim = Path(shop.shim) / EXTENSION
            times.add(shim.stat().st_mtime)
            os.utime(shim, (1_000_000, 1_000_000))
    assert len(times) == 2
    assert shim.stat().st_mtime == 1_000_000


def test_folders_of_builds_that_were_killed_are_removed(tmp_path: Path) -> None:
    node = os.uname().nodename
    dead, alive = tmp_path / f"tmp-{node}-999999999", tmp_path / f"tmp-{node}-1"
    elsewhere = tmp_path / "tmp-other-pod-999999999"
    for folder in (dead, alive, elsewhere):
        folder.mkdir()
    with open_workshop(make_request(work=str(tmp_path)), log=str(tmp_path / "log")):
        pass
    assert (dead.exists(), alive.exists(), elsewhere.exists()) == (False, True, True)


def test_the_clock_counts_each_step_once(tmp_path: Path) -> None:
    with open_workshop(make_request(work=str(tmp_path)), log=str(tmp_path / "log")) as shop:
        shop.mark("capture")
        shop.note("a word")
        shop.mark("pack")
    assert list(shop.seconds) == ["capture", "pack"]
    assert all(0 <= seconds < 5 for seconds in shop.seconds.values())
    assert (tmp_path / "log").read_text(encoding="utf-8").endswith("# a word\n")
