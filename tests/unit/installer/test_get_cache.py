from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from apex_installer.errors import DownloadError, UsageError
from apex_installer.get import cache as cache_module
from apex_installer.get.cache import Cache, CacheLocation, find_cache

MOUNT = "/dev/shm"  # noqa: S108 - nothing is written there
"""A mount that every Linux has and everybody may write."""
DATA = b"a wheel"
SHA256 = hashlib.sha256(DATA).hexdigest()


def made(directory: Path, **environ: str) -> Cache:
    return Cache(CacheLocation(str(directory), "test", outlives_pod=False), environ=environ)


def publish(cache: Cache, data: bytes = DATA, sha256: str = SHA256) -> str:
    part = cache.part_for(sha256)
    Path(part).write_bytes(data)
    return cache.publish(part, sha256=sha256, file="apex-0.1-py3-none-any.whl")


# -- where ---------------------------------------------------------------------------------------


def find(flag: str | None = None, mounts: tuple[str, ...] = (), **environ: str) -> CacheLocation:
    return find_cache(flag=flag, environ=environ, volumes=mounts)


def test_the_flag_comes_first() -> None:
    assert find("/a", (MOUNT,), APEX_INSTALL_CACHE_DIR="/b", HOME="/h").directory == "/a"


def test_then_the_variable() -> None:
    assert find(None, (MOUNT,), APEX_INSTALL_CACHE_DIR="/b").directory == "/b"


def test_a_relative_one_is_refused() -> None:
    with pytest.raises(UsageError, match="--cache-dir here: give an absolute path"):
        find("here")


def test_then_a_volume_that_is_mounted() -> None:
    found = find(None, ("/nowhere", MOUNT), HOME="/h", XDG_CACHE_HOME="/x")
    assert found == CacheLocation(
        f"{MOUNT}/.apex-install", f"{MOUNT} is a mount", outlives_pod=True
    )


def test_a_folder_of_that_name_is_no_volume(tmp_path: Path) -> None:
    assert find(None, (str(tmp_path),), HOME="/h").why == "~/.cache"


def test_on_any_volume_it_outlives_the_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes mounts where it is told to; the container's own disk and memory go with it."""
    volume = tmp_path / "data"
    monkeypatch.setattr(os.path, "ismount", lambda path: path == str(volume))
    for kind, outlives in (("nfs4", True), ("ext4", True), ("tmpfs", False), ("overlay", False)):
        monkeypatch.setattr(cache_module, "file_system", lambda _, kind=kind: kind)
        assert find(str(volume / "not/made/yet")).outlives_pod is outlives
    assert not find(str(tmp_path / "elsewhere")).outlives_pod


def test_memory_is_no_volume() -> None:
    assert cache_module.file_system(MOUNT) == "tmpfs"
    assert not find(f"{MOUNT}/cache").outlives_pod


def test_below_a_volume_it_outlives_the_pod() -> None:
    assert find(f"{MOUNT}/my/cache", (MOUNT,)).outlives_pod
    assert not find("/elsewhere", (MOUNT,)).outlives_pod


def test_then_xdg_then_home_then_a_temporary_place() -> None:
    assert find(XDG_CACHE_HOME="/x", HOME="/h").directory == "/x/apex-install"
    assert find(XDG_CACHE_HOME="relative", HOME="/h").directory == "/h/.cache/apex-install"
    found = find(TMPDIR="/t")
    assert (found.directory, found.why) == (f"/t/apex-install-{os.getuid()}", "no home")


# -- what it holds -------------------------------------------------------------------------------


def test_what_is_published_is_found(tmp_path: Path) -> None:
    cache = made(tmp_path)
    assert cache.wheel(SHA256) is None
    path = publish(cache)
    assert path.endswith(f"/wheels/{SHA256}/apex-0.1-py3-none-any.whl")
    assert made(tmp_path).wheel(SHA256) == path
    assert cache.finding == ""


@pytest.mark.parametrize("data", [b"poison!", b"", DATA + b"x"], ids=["other", "empty", "longer"])
def test_bytes_that_changed_are_removed_and_said(data: bytes, tmp_path: Path) -> None:
    path = publish(made(tmp_path), data)
    cache = made(tmp_path)
    assert cache.wheel(SHA256) is None
    assert not Path(path).exists()
    assert "did not hold its bytes and was removed" in cache.finding


def test_publishing_twice_is_fine(tmp_path: Path) -> None:
    assert publish(made(tmp_path)) == publish(made(tmp_path))


def test_two_runs_never_share_a_part(tmp_path: Path) -> None:
    assert made(tmp_path).part_for(SHA256) != made(tmp_path).part_for(SHA256)


def test_a_kept_part_is_continued_by_one(tmp_path: Path) -> None:
    first = made(tmp_path)
    part = first.part_for(SHA256)
    Path(part).write_bytes(DATA[:3])
    first.keep_part(part)
    second, third = made(tmp_path).part_for(SHA256), made(tmp_path).part_for(SHA256)
    assert Path(second).read_bytes() == DATA[:3]
    assert not Path(third).exists()


def test_a_killed_runs_part_is_continued_when_it_is_stale(tmp_path: Path) -> None:
    part = made(tmp_path).part_for(SHA256)
    Path(part).write_bytes(DATA[:3])
    assert not Path(made(tmp_path).part_for(SHA256)).exists(), "its writer may be alive"
    os.utime(part, (1, 1))
    assert Path(made(tmp_path).part_for(SHA256)).exists()


# -- a cache that cannot be used -----------------------------------------------------------------


def test_one_that_cannot_be_made_is_survived(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with made(tmp_path / "file" / "cache", TMPDIR=str(tmp_path)) as cache:
        path = publish(cache)
        assert str(Path(path).parents[1]).startswith(f"{tmp_path}/apex-install-")
        assert "Not a directory; not used" in cache.finding
    assert not Path(path).exists()


def test_one_without_room_is_survived(tmp_path: Path) -> None:
    with made(tmp_path / "cache", TMPDIR=str(tmp_path)) as cache:
        assert not cache.part_for(SHA256, size=1 << 60).startswith(f"{tmp_path}/cache")
        assert "disk is full" in cache.finding


def test_no_place_at_all_says_both(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = made(tmp_path / "file" / "cache", TMPDIR=str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"neither .*cache nor .*file can be written"):
        cache.part_for(SHA256)


def test_one_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    publish(made(tmp_path / "cache"))
    (tmp_path / "cache").chmod(0o777)
    with made(tmp_path / "cache", TMPDIR=str(tmp_path)) as cache:
        assert cache.wheel(SHA256) is None
        assert not cache.part_for(SHA256).startswith(f"{tmp_path}/cache/")
        assert "can be written by others and is not used; chmod go-w" in cache.finding


def test_another_users_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(made(tmp_path / "cache"))
    monkeypatch.setattr(
        cache_module.os,
        "stat",
        lambda _: os.stat_result((0o40755,) + (0,) * 3 + (12345,) + (0,) * 5),
    )
    assert made(tmp_path / "cache").wheel(SHA256) is None
