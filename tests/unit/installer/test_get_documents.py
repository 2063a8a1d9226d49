from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apex_installer.deadline import Deadline
from apex_installer.errors import DownloadError, InstallError, NoWheelError, TrustError
from apex_installer.get.documents import document_url, fetch_document
from apex_installer.get.http import Fetcher
from apex_installer.model.cell import Cell
from support import fault_server as faults
from support.fault_server import FaultServer
from support.wheels import CELL, make_wheel, write_document

if TYPE_CHECKING:
    from pathlib import Path

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
