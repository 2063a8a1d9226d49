"""Publishing: what may follow what, and that no end of a publisher shows in the index."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from support.index_wheels import CellWheel, write_cell_wheel
from wheelbuild.errors import PublishError, UsageError
from wheelbuild.index.builds import newest_build, next_build_tag
from wheelbuild.index.pages import render
from wheelbuild.publish import find_standing, publish, reindex, yank
from wheelbuild.stores import directory
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from wheelbuild.stores.store import Store

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
PAGE = "cu130/torch2.11/simple/apex/index"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "index")


def state_of(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes and date."""
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def check_pages(root: Path) -> int:
    """Every page names only files that are there, whole, with their sidecars; how many it named."""
    named = 0
    for page in root.rglob("simple/apex/index.json"):
        for file in json.loads(page.read_bytes())["files"]:
            assert not urlsplit(file["url"]).scheme
            path = page.parent / unquote(file["url"])
            assert sha256(path.read_bytes()).hexdigest() == file["hashes"]["sha256"]
            sidecar = path.with_name(f"{path.name}.metadata").read_bytes()
            assert sha256(sidecar).hexdigest() == file["core-metadata"]["sha256"]
            named += 1
    return named


def test_the_layout_of_an_index(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    published = publish(made.path, made.entry, store=store, now=NOON)
    digest = made.entry.sha256
    assert published.state == "published"
    assert sorted(state_of(store.directory)) == [
        f"cu130/torch2.11/{name}"
        for name in (
            "install-cp311.json",
            "simple/apex/index.html",
            "simple/apex/index.json",
            "simple/index.html",
            "simple/index.json",
        )
    ] + [
        f"entries/{digest}.json",
        f"files/{digest}/{made.path.name}",
        f"files/{digest}/{made.path.name}.metadata",
        "index.html",
    ]
    assert check_pages(store.directory) == 1
    kept = json.loads((store.directory / f"entries/{digest}.json").read_bytes())
    assert (kept["schema"], kept["uploaded"]) == (1, "2026-11-24T12:00:00Z")
    assert (store.directory / "entries" / unquote(kept["url"])).is_file()


def test_twice_is_once(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    publish(made.path, made.entry, store=store)
    before = state_of(store.directory)
    again = publish(made.path, made.entry, store=store)
    assert (again.state, again.pages) == ("already", ())
    assert state_of(store.directory) == before


def test_the_same_key_needs_no_other_bytes(tmp_path: Path, store: DirectoryStore) -> None:
    one = write_cell_wheel(tmp_path / "1")
    two = write_cell_wheel(tmp_path / "2", files={"apex/clock.py": "later\n"})
    assert one.entry.key == two.entry.key
    assert one.entry.sha256 != two.entry.sha256
    publish(one.path, one.entry, store=store)
    before = state_of(store.directory)
    again = publish(two.path, two.entry, store=store)
    assert (again.state, again.entry.sha256) == ("already", one.entry.sha256)
    assert state_of(store.directory) == before


def test_a_name_that_is_held_with_other_bytes_is_refused(
    tmp_path: Path, store: DirectoryStore
) -> None:
    one = write_cell_wheel(tmp_path / "1")
    two = write_cell_wheel(tmp_path / "2", inputs="second")
    publish(one.path, one.entry, store=store)
    before = state_of(store.directory)
    with pytest.raises(PublishError, match=r"other bytes under this name.*build tag 2"):
        publish(two.path, two.entry, store=store)
    assert state_of(store.directory) == before


def test_forced_without_a_new_build_tag_is_refused_too(
    tmp_path: Path, store: DirectoryStore
) -> None:
    one = write_cell_wheel(tmp_path / "1")
    two = write_cell_wheel(tmp_path / "2", files={"apex/clock.py": "later\n"})
    publish(one.path, one.entry, store=store)
    with pytest.raises(PublishError, match="other bytes under this name"):
        publish(two.path, two.entry, store=store, force=True)


def test_forced_takes_the_next_build_tag(tmp_path: Path, store: DirectoryStore) -> None:
    one = write_cell_wheel(tmp_path / "1")
    two = write_cell_wheel(tmp_path / "2", build_tag=2)
    publish(one.path, one.entry, store=store)
    assert publish(two.path, two.entry, store=store, force=True).state == "published"
    assert check_pages(store.directory) == 2


def test_a_rebuild_takes_the_next_build_tag(tmp_path: Path, store: DirectoryStore) -> None:
    for tag, inputs in ((0, "first"), (2, "second"), (3, "third")):
        made = write_cell_wheel(tmp_path, build_tag=tag, inputs=inputs)
        newest = newest_build(store.entries(), cell=made.entry.cell, version=made.entry.version)
        assert next_build_tag(newest) == tag
        publish(made.path, made.entry, store=store)
    assert check_pages(store.directory) == 3


@pytest.mark.parametrize("tag", [1, 3, 20])
def test_another_build_tag_is_refused(tmp_path: Path, store: DirectoryStore, tag: int) -> None:
    one = write_cell_wheel(tmp_path)
    two = write_cell_wheel(tmp_path, build_tag=tag, inputs="second")
    publish(one.path, one.entry, store=store)
    with pytest.raises(PublishError, match=f"build tag {tag}, the next one .* is 2"):
        publish(two.path, two.entry, store=store)


def test_the_first_build_has_no_tag(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path, build_tag=2)
    with pytest.raises(PublishError, match="the next one of this cell and version is none"):
        publish(made.path, made.entry, store=store)
    assert not store.entries()


def test_an_older_key_may_come_back(tmp_path: Path) -> None:
    """Only the newest build's key counts: a recipe changed and changed back builds anew."""
    held = [
        write_cell_wheel(tmp_path).entry,
        write_cell_wheel(tmp_path, build_tag=2, inputs="second").entry,
    ]
    back = write_cell_wheel(tmp_path, build_tag=3, inputs="first").entry
    assert find_standing(back, held, force=False) is None


def test_a_variant_lies_beside_its_plain_wheel_and_never_instead(
    tmp_path: Path, store: DirectoryStore
) -> None:
    plain, variant = write_cell_wheel(tmp_path), write_cell_wheel(tmp_path, variant="sm90")
    with pytest.raises(PublishError, match="no plain wheel at all"):
        publish(variant.path, variant.entry, store=store)
    publish(plain.path, plain.entry, store=store)
    assert publish(variant.path, variant.entry, store=store).state == "published"
    assert publish(variant.path, variant.entry, store=store).state == "already"
    again = write_cell_wheel(tmp_path / "again", variant="sm90", files={"apex/more.py": ""})
    assert publish(again.path, again.entry, store=store).entry.sha256 == variant.entry.sha256
    other = write_cell_wheel(tmp_path / "other", variant="sm90", inputs="second")
    with pytest.raises(PublishError, match="holds another build under this name"):
        publish(other.path, other.entry, store=store)


def test_a_variant_has_no_say_in_the_next_build_tag(tmp_path: Path, store: DirectoryStore) -> None:
    for label in ("", "sm90"):
        made = write_cell_wheel(tmp_path, variant=label)
        publish(made.path, made.entry, store=store)
    second = write_cell_wheel(tmp_path, build_tag=2, inputs="second")
    assert publish(second.path, second.entry, store=store).state == "published"
    late = write_cell_wheel(tmp_path / "late", variant="sm80")
    with pytest.raises(PublishError, match=r"its build tag is none, .* newest plain wheel has 2"):
        publish(late.path, late.entry, store=store)


def test_later_evidence_replaces_none_and_never_the_other_way(
    tmp_path: Path, store: DirectoryStore
) -> None:
    made = write_cell_wheel(tmp_path)
    tested = replace(made.entry, tests={"gpu": "NVIDIA H200"})
    publish(made.path, made.entry, store=store, now=NOON)
    assert publish(made.path, tested, store=store).entry.tests == {"gpu": "NVIDIA H200"}
    publish(made.path, made.entry, store=store)
    (held,) = store.entries()
    assert (held.tests, held.uploaded) == ({"gpu": "NVIDIA H200"}, "2026-11-24T12:00:00Z")
    assert "NVIDIA H200" in (store.directory / "index.html").read_text()


def test_yank_and_take_it_back(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    publish(made.path, made.entry, store=store)
    before = state_of(store.directory)
    yanked = yank(made.path.name, reason="wrong on sm_89", store=store)
    assert yanked.entry.yanked == "wrong on sm_89"
    (file,) = json.loads((store.directory / f"{PAGE}.json").read_bytes())["files"]
    assert file["yanked"] == "wrong on sm_89"
    assert yank(made.path.name, reason="wrong on sm_89", store=store).pages == ()
    yank(made.path.name, reason=None, store=store)
    after = state_of(store.directory)
    assert {name: content for name, (content, _) in after.items()} == {
        name: content for name, (content, _) in before.items()
    }


def test_to_publish_again_does_not_take_a_yank_back(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    publish(made.path, made.entry, store=store)
    yank(made.path.name, reason="bad", store=store)
    assert publish(made.path, made.entry, store=store).entry.yanked == "bad"


def test_a_file_that_is_not_there_cannot_be_yanked(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    publish(made.path, made.entry, store=store)
    with pytest.raises(UsageError, match=r"near: apex-0\.1"):
        yank(made.path.name.replace("cp311", "cp312"), reason="bad", store=store)


def test_reindex_writes_what_is_missing_and_drops_what_is_stale(
    tmp_path: Path, store: DirectoryStore
) -> None:
    made = write_cell_wheel(tmp_path)
    publish(made.path, made.entry, store=store)
    before = state_of(store.directory)
    (store.directory / f"{PAGE}.html").write_text("spoilt")
    (store.directory / "index.html").unlink()
    stale = store.directory / "cu121/torch2.4/simple/apex/index.html"
    stale.parent.mkdir(parents=True)
    stale.write_text("names a file that is gone")
    own = store.directory / "docs/index.html"
    own.parent.mkdir()
    own.write_text("somebody's")
    changed = reindex(store=store)
    assert set(changed) == {f"{PAGE}.html", "index.html", "cu121/torch2.4/simple/apex/index.html"}
    assert own.read_text() == "somebody's"
    after = {name: content for name, (content, _) in state_of(store.directory).items()}
    assert after == {**{n: c for n, (c, _) in before.items()}, "docs/index.html": b"somebody's"}


def test_reindex_makes_an_index_of_nothing(store: DirectoryStore) -> None:
    assert reindex(store=store) == ("index.html",)


def test_a_damaged_file_is_put_right(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    publish(made.path, made.entry, store=store)
    kept = store.directory / "files" / made.entry.sha256 / made.path.name
    kept.write_bytes(b"rot")
    publish(made.path, made.entry, store=store)
    assert kept.read_bytes() == made.path.read_bytes()


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    with pytest.raises(PublishError, match="changed while it was published"), store.locked():
        store.put_file(made.path, sha256=64 * "0")
    assert not list(store.directory.rglob("*.whl"))


@pytest.mark.parametrize("text", ["{", "[]", '{"file": 1}'])
def test_an_entry_that_cannot_be_read_is_named(store: DirectoryStore, text: str) -> None:
    path = store.directory / "entries/ab.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(PublishError, match=r"entries/ab\.json"):
        reindex(store=store)


def test_an_entry_of_a_newer_farm_is_refused(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    publish(made.path, made.entry, store=store)
    path = store.directory / f"entries/{made.entry.sha256}.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema": 2}))
    with pytest.raises(PublishError, match="schema 2, but this farm reads 1"):
        store.entries()


def test_an_entry_under_anothers_name_is_refused(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    publish(made.path, made.entry, store=store)
    path = store.directory / f"entries/{made.entry.sha256}.json"
    path.rename(path.with_name(f"{64 * '0'}.json"))
    with pytest.raises(PublishError, match="the entry of another file"):
        store.entries()


def test_what_is_published_can_be_read_by_others(tmp_path: Path, store: DirectoryStore) -> None:
    made = write_cell_wheel(tmp_path)
    before = os.umask(0o022)
    try:
        publish(made.path, made.entry, store=store)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in store.directory.rglob("*") if path.is_file()}
    assert modes == {0o644}


class Power:
    """Cuts it before or after the n-th rename, which is the only call that shows to readers."""

    def __init__(self, *, after: int, before_rename: bool) -> None:
        self.left, self.before_rename = after, before_rename

    def replace(self, source: Path, target: Path) -> None:
        self.left -= 1
        if self.left < 0 and self.before_rename:
            raise KeyboardInterrupt
        real_replace(source, target)
        if self.left < 0:
            raise KeyboardInterrupt


real_replace = os.replace


@pytest.mark.parametrize("before_rename", [True, False], ids=["before", "after"])
def test_cut_off_anywhere_the_pages_hold_and_the_next_run_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, before_rename: bool
) -> None:
    first = write_cell_wheel(tmp_path)
    made = write_cell_wheel(tmp_path, build_tag=2, inputs="second")
    whole = DirectoryStore(tmp_path / "whole")
    for wheel in (first, made):
        publish(wheel.path, wheel.entry, store=whole, now=NOON)
    wanted = {name: content for name, (content, _) in state_of(whole.directory).items()}

    for cut in range(100):
        store = DirectoryStore(tmp_path / f"cut-{cut}")
        publish(first.path, first.entry, store=store, now=NOON)
        power = Power(after=cut, before_rename=before_rename)
        with monkeypatch.context() as patch:
            patch.setattr(directory.os, "replace", power.replace)
            try:
                publish(made.path, made.entry, store=store, now=NOON)
            except KeyboardInterrupt:
                done = False
            else:
                done = True
        assert check_pages(store.directory) >= 1
        publish(made.path, made.entry, store=store, now=NOON)
        found = {name: content for name, (content, _) in state_of(store.directory).items()}
        assert found == wanted
        if done:
            break
    assert cut == 7  # sidecar, file, entry, and the four pages that name it


def test_many_publishers_lose_nothing(tmp_path: Path, store: DirectoryStore) -> None:
    cells = [f"cp31{minor}-torch2.11-cu130-linux_x86_64" for minor in range(8)]
    wheels = [write_cell_wheel(tmp_path, cell=cell) for cell in cells]
    failed: list[BaseException] = []

    def run(made: CellWheel) -> None:
        try:
            publish(made.path, made.entry, store=DirectoryStore(store.directory), now=NOON)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)

    threads = [threading.Thread(target=run, args=(made,)) for made in wheels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert check_pages(store.directory) == len(cells)
    assert reindex(store=store) == ()


def test_a_folder_keeps_what_a_store_promises(tmp_path: Path) -> None:
    store: Store = DirectoryStore(tmp_path)
    assert store.entries() == ()
    assert store.write_pages(render([])) == ("index.html",)
