from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.deadline import Deadline
from apex_installer.errors import DownloadError, InstallError, NoWheelError, TrustError
from apex_installer.get.cache import Cache, CacheLocation
from apex_installer.get.documents import (
    document_url,
    fetch_document,
    find_kept,
    keep_document,
    kept_path,
)
from apex_installer.get.http import Fetcher
from apex_installer.model.cell import Cell
from support import fault_server as faults
from support.fault_server import FaultServer
from support.wheels import CELL, make_wheel, write_document

if TYPE_CHECKING:
    from apex_installer.model.entry import Document

THE_CELL = Cell.parse(CELL)
PATH = "/cu130/torch2.11/install-cp311.json"


def get(index_url: str) -> Document:
    with Fetcher(allow_http=False, deadline=Deadline(5), pause=lambda _: None) as fetcher:
        return fetch_document(index_url, THE_CELL, fetcher=fetcher, installer="0.1.0")


def serve(handler: faults.Handler) -> Document:
    with FaultServer({PATH: handler}) as server:
        return get(server.url)


@pytest.mark.parametrize("url", ["https://a.example/i", "https://a.example/i/"])
def test_has_an_explicit_name(url: str) -> None:
    assert document_url(url, THE_CELL) == f"https://a.example/i{PATH}"


def test_entries_name_their_files_absolutely(tmp_path: Path) -> None:
    made = make_wheel(tmp_path)
    write_document(tmp_path / "index", [made])
    (entry,) = get(f"file://{tmp_path}/index").entries
    assert entry.url == f"file://{tmp_path}/index/files/{made.entry.sha256}/{made.entry.file}"


def test_variants_have_a_list_of_their_own(tmp_path: Path) -> None:
    plain = make_wheel(tmp_path / "plain")
    variant = make_wheel(tmp_path / "variant", variant="sm90", architectures=("9.0",))
    path = write_document(tmp_path / "index", [variant, plain])
    data = json.loads(path.read_text())
    assert [entry["file"] for entry in data["entries"]] == [plain.entry.file]
    assert [entry["file"] for entry in data["variants"]] == [variant.entry.file]
    found = get(f"file://{tmp_path}/index").entries
    assert [entry.variant for entry in found] == ["", "sm90"]


def test_what_the_index_has_not() -> None:
    with pytest.raises(NoWheelError, match=r"the index has nothing for cp311, torch 2.11, cu130"):
        serve(faults.status("404 Not Found"))


def documents(tmp_path: Path) -> dict[str, object]:
    made = make_wheel(tmp_path)
    return json.loads(write_document(tmp_path / "index", [made]).read_text())


BAD: dict[str, tuple[faults.Handler, type[InstallError], str]] = {
    "sign-in-page": (faults.answer(b"<html>"), TrustError, "not JSON .* sign-in page"),
    "not-utf-8": (faults.answer(b"\xff\xfe\x00"), TrustError, "not JSON"),
    "empty": (faults.answer(b""), TrustError, "not JSON"),
    "deep": (faults.answer(b"[" * 100_000), TrustError, "not JSON"),
    "list": (faults.answer(b"[]"), TrustError, "not an installer's document"),
    "endless": (faults.endless(), TrustError, "longer than"),
    "500": (faults.status("500 Oops"), DownloadError, "HTTP 500"),
}


@pytest.mark.parametrize(("handler", "error", "says"), BAD.values(), ids=BAD)
def test_is_refused(handler: faults.Handler, error: type[InstallError], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        serve(handler)
    assert PATH in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "needs apex-install .* fetch a newer"),
        ({"min_installer": "9.0.0"}, "needs apex-install 9.0.0 or newer"),
        ({"index_path": "cu121/torch2.4"}, "is the document of cu121/torch2.4 cp311"),
        ({"python": "cp310"}, "is the document of .* cp310"),
        ({"entries": [{}]}, "not a valid entry"),
    ],
)
def test_a_document_of_something_else(change: dict[str, object], says: str, tmp_path: Path) -> None:
    text = json.dumps({**documents(tmp_path), **change}).encode()
    with pytest.raises(TrustError, match=says):
        serve(faults.answer(text))


def test_an_entry_that_points_to_a_weaker_place(tmp_path: Path) -> None:
    made = make_wheel(tmp_path, url="file:///etc/passwd")
    text = write_document(tmp_path / "index", [made]).read_bytes()
    with pytest.raises(TrustError, match="less safe place"):
        serve(faults.answer(text))


# -- kept ----------------------------------------------------------------------------------------

INDEX = "https://wheels.example/index/"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(CacheLocation(str(tmp_path / "cache"), "test", outlives_pod=True), environ={})


def path_of(cache: Cache, url: str = INDEX) -> str:
    path = kept_path(cache, url, THE_CELL)
    assert path is not None
    return path


def kept(path: str) -> object:
    with Fetcher(allow_http=False, deadline=Deadline(5)) as fetcher:
        return find_kept(path, INDEX, THE_CELL, fetcher=fetcher, installer="0.1.0")


def test_a_kept_one_says_when_it_was_fetched(cache: Cache, tmp_path: Path) -> None:
    text = json.dumps(documents(tmp_path)).encode()
    path = path_of(cache)
    assert kept(path) is None
    keep_document(path, text)
    os.utime(path, (1_764_000_000, 1_764_000_000))
    found = kept(path)
    assert found is not None
    assert found.when == "2025-11-24 16:00 UTC"
    assert found.document.entries[0].url.startswith(INDEX)
    keep_document(path, text)
    assert kept(path).when > "2026"


def test_a_token_is_no_part_of_its_name_and_no_part_of_the_cache(cache: Cache) -> None:
    assert path_of(cache) == path_of(cache, "https://user:token@wheels.example/index")
    assert path_of(cache) != path_of(cache, "https://wheels.example/other")


def test_of_a_file_index_none_is_kept(cache: Cache, tmp_path: Path) -> None:
    assert kept_path(cache, tmp_path.as_uri(), THE_CELL) is None


@pytest.mark.parametrize("content", ["", "{", '{"schema": 99}', "[]"])
def test_one_that_cannot_be_read_is_removed(cache: Cache, content: str) -> None:
    path = Path(path_of(cache))
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert kept(str(path)) is None
    assert not path.exists()


def test_where_others_could_have_put_one_none_is_taken(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "cache/documents").mkdir(parents=True)
    (tmp_path / "cache/documents").chmod(0o777)
    assert kept_path(cache, INDEX, THE_CELL) is None


def test_a_cache_that_takes_nothing_is_survived(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    keep_document(str(tmp_path / "cache/documents/x.json"), b"{}")
