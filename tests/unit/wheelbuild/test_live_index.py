"""A live index is read by its static files; a folder as ever."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apex_installer.model.cell import Cell
from support.index_wheels import CELL, write_cell_wheel
from support.replay import ReplayServer
from wheelbuild.errors import IndexReadError, UsageError
from wheelbuild.live_index import document_names, read_entries
from wheelbuild.publish import publish
from wheelbuild.serve import IndexServer
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.web import Web

if TYPE_CHECKING:
    from pathlib import Path

OTHER = "cp312-torch2.11-cu130-linux_x86_64"
CELLS = [Cell.parse(CELL), Cell.parse(OTHER)]
DOCUMENT = "/cu130/torch2.11/install-cp311.json"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    store = DirectoryStore(tmp_path / "index")
    for suffix in ("", "norm"):
        made = write_cell_wheel(tmp_path / f"wheels{suffix}", suffix=suffix)
        publish(made.path, made.entry, store=store)
    return store.directory


def web() -> Web:
    return Web(pause=0.0)


def test_a_live_index_says_what_its_folder_says(index: Path) -> None:
    of_folder = {entry.sha256: entry for entry in read_entries(str(index), CELLS)}
    assert read_entries(index.as_uri(), CELLS) == tuple(of_folder.values())
    with IndexServer(index) as server:
        live = read_entries(server.url, CELLS, web=web())
    assert {entry.sha256 for entry in live} == set(of_folder)
    assert {(one.key, one.suffix) for one in live} == {
        (one.key, one.suffix) for one in of_folder.values()
    }
    assert all(entry.url.startswith(f"{server.url}files/{entry.sha256}/") for entry in live)


def test_one_document_per_index_path_and_python_is_asked_for() -> None:
    names = document_names([*CELLS, *CELLS])
    assert names == (
        "cu130/torch2.11/install-cp311.json",
        "cu130/torch2.11/install-cp312.json",
    )
    with ReplayServer({"/index.html": ("text/html", b"")}) as server:
        assert read_entries(server.url, CELLS, web=web()) == ()
    assert sorted(server.asked) == [*(f"/{name}" for name in names), "/index.html"]


def test_an_address_without_an_index_is_not_an_empty_index() -> None:
    with ReplayServer({}) as server, pytest.raises(IndexReadError, match="address of an index"):
        read_entries(server.url, CELLS, web=web())


@pytest.mark.parametrize("failures", [[503], [500, 429, 0], [0, 0, 0]])
def test_what_passes_is_tried_again(index: Path, failures: list[int]) -> None:
    page = (index / DOCUMENT[1:]).read_bytes()
    pages = {DOCUMENT: ("application/json", page)}
    with ReplayServer(pages, failures={DOCUMENT: failures}) as server:
        assert len(read_entries(server.url, CELLS[:1], web=web())) == 2
    assert server.asked == [DOCUMENT] * (len(failures) + 1)


@pytest.mark.parametrize(("codes", "asked"), [([503] * 9, 4), ([403], 1)])
def test_what_does_not_pass_is_said(codes: list[int], asked: int) -> None:
    with (
        ReplayServer({}, failures={DOCUMENT: codes}) as server,
        pytest.raises(IndexReadError, match=rf"{DOCUMENT}: cannot be read: HTTP {codes[0]}"),
    ):
        read_entries(server.url, CELLS[:1], web=web())
    assert len(server.asked) == asked


def test_nobody_who_listens_is_said() -> None:
    with ReplayServer({}) as server:
        url = server.url
    with pytest.raises(IndexReadError, match="refused"):
        read_entries(url, CELLS[:1], web=web())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>sign in</html>", "not JSON"),
        (b"[]", "not"),
        (
            json.dumps(
                {
                    "schema": 1,
                    "min_installer": "0.1.0",
                    "index_path": "cu121/torch2.4",
                    "python": "cp310",
                    "entries": [],
                }
            ).encode(),
            "is the document of cu121/torch2.4 cp310",
        ),
    ],
)
def test_what_is_no_document_of_that_cell_is_refused(body: bytes, said: str) -> None:
    pages = {DOCUMENT: ("application/json", body)}
    with ReplayServer(pages) as server, pytest.raises(IndexReadError, match=said):
        read_entries(server.url, CELLS[:1], web=web())


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="ftp://x"):
        read_entries("ftp://x/index", CELLS)
