"""The pages: what they say, that they are pure, and that hostile text stays text."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apex_installer.model.entry import Document
from support.index_wheels import CELL, cell_version, write_cell_wheel
from wheelbuild.errors import PublishError
from wheelbuild.index.pages import render
from wheelbuild.index.paths import PAGE, file_url, rebase

if TYPE_CHECKING:
    from pathlib import Path

    from apex_installer.model.entry import Entry

OTHERS = ("cp310-torch2.4-cu121-linux_x86_64", "cp311-torch2.9-cu130-linux_x86_64")


class Links(HTMLParser):
    """Anchors of a page, as (attributes, text)."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[str] = []
        self._open: dict[str, str | None] | None = None
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self._open = dict(attrs)

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.found.append((self._open, data))
            self._open = None


def an_entry(tmp_path: Path, **fields: object) -> Entry:
    entry = write_cell_wheel(tmp_path, **fields).entry
    url = entry.url or file_url(entry.file, sha256=entry.sha256)
    return replace(entry, url=url, uploaded="2026-11-24T04:00:00Z")


@pytest.fixture
def one_entry(tmp_path: Path) -> Entry:
    return an_entry(tmp_path)


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    return [
        an_entry(tmp_path),
        an_entry(tmp_path, build_tag=2, inputs="second"),
        an_entry(tmp_path, suffix="norm.sm90"),
        an_entry(tmp_path, cell="cp312-torch2.11-cu130-linux_x86_64"),
        *(an_entry(tmp_path, cell=cell) for cell in OTHERS),
        an_entry(tmp_path, cell="python"),
    ]


def test_the_same_entries_in_any_order_give_the_same_bytes(entries: list[Entry]) -> None:
    @given(st.permutations(entries))
    @settings(max_examples=30, deadline=None)
    def holds(shuffled: list[Entry]) -> None:
        pages = render(shuffled)
        assert dict(pages) == first
        assert list(pages) == list(first)

    first = dict(render(entries))
    holds()


def test_every_cuda_torch_and_suffix_has_its_own_index_path(entries: list[Entry]) -> None:
    paths = {path.partition("/simple/apex/")[0] for path in render(entries) if "/apex/" in path}
    assert paths == {
        "cu121/torch2.4",
        "cu130/torch2.9",
        "cu130/torch2.11",
        "cu130/torch2.11/norm.sm90",
        "python",
    }


def test_a_suffixed_wheel_is_on_no_page_but_its_own(entries: list[Entry]) -> None:
    pages = render(entries)
    (own,) = (entry for entry in entries if entry.suffix)
    listing = [path for path, page in pages.items() if unquote(page.decode()).count(own.file)]
    assert sorted(listing) == [
        "cu130/torch2.11/install-cp311.json",
        "cu130/torch2.11/norm.sm90/simple/apex/index.html",
        "cu130/torch2.11/norm.sm90/simple/apex/index.json",
        "index.html",
    ]


def test_what_leads_to_a_page_comes_after_it(entries: list[Entry]) -> None:
    order = list(render(entries))
    assert order[-1] == "index.html"
    for path in order:
        if path.endswith("/simple/apex/index.html"):
            assert order.index(path) < order.index(path.replace("apex/", ""))


def test_every_link_of_every_page_names_a_file_of_an_entry(entries: list[Entry]) -> None:
    pages = render(entries)
    known = {unquote(entry.url): entry for entry in entries}
    for path, page in pages.items():
        if not path.endswith("simple/apex/index.html"):
            continue
        links = Links(page).found
        assert links, path
        for attributes, text in links:
            href, fragment = urldefrag(urljoin(f"http://x/{path}", attributes["href"]))
            entry = known[unquote(href.removeprefix("http://x/"))]
            assert text == entry.file
            assert fragment == f"sha256={entry.sha256}"
            for name in ("data-core-metadata", "data-dist-info-metadata"):
                assert attributes[name] == f"sha256={entry.metadata_sha256}"
            assert "data-yanked" not in attributes


def test_no_address_holds_a_literal_plus(entries: list[Entry]) -> None:
    for path, page in render(entries).items():
        for address in re.findall(r'(?:href="|"url": ?")([^"]*)"', page.decode()):
            assert "+" not in address, path


def test_json_says_what_html_says(entries: list[Entry]) -> None:
    pages = render(entries)
    page = json.loads(pages["cu130/torch2.11/simple/apex/index.json"])
    links = Links(pages["cu130/torch2.11/simple/apex/index.html"]).found
    assert page["meta"] == {"api-version": "1.1"}
    assert (page["name"], page["versions"]) == ("apex", [cell_version()])
    assert [file["filename"] for file in page["files"]] == [text for _, text in links]
    for file, (attributes, _) in zip(page["files"], links, strict=True):
        assert f"{file['url']}#sha256={file['hashes']['sha256']}" == attributes["href"]
        assert file["core-metadata"] == file["dist-info-metadata"]
        assert f"sha256={file['core-metadata']['sha256']}" == attributes["data-core-metadata"]
        assert isinstance(file["size"], int)
        assert file["upload-time"] == "2026-11-24T04:00:00Z"
        assert file["yanked"] is False


def test_the_roots_of_the_simple_api_name_the_project_relatively(entries: list[Entry]) -> None:
    pages = render(entries)
    assert json.loads(pages["python/simple/index.json"])["projects"] == [{"name": "apex"}]
    ((attributes, text),) = Links(pages["python/simple/index.html"]).found
    assert (attributes["href"], text) == ("apex/", "apex")


@pytest.mark.parametrize(("reason", "said"), [("broken on sm_89", "broken on sm_89"), ("", True)])
def test_a_yank_is_on_both_pages(tmp_path: Path, reason: str, said: object) -> None:
    pages = render([an_entry(tmp_path, yanked=reason)])
    (file,) = json.loads(pages["cu130/torch2.11/simple/apex/index.json"])["files"]
    assert file["yanked"] == said
    ((attributes, _),) = Links(pages["cu130/torch2.11/simple/apex/index.html"]).found
    assert attributes["data-yanked"] == reason


def test_the_installers_document_lists_all_of_the_cell_suffixed_ones_too(
    entries: list[Entry],
) -> None:
    path = "cu130/torch2.11/install-cp311.json"
    data = json.loads(render(entries)[path])
    document = Document.from_json(data, where=path, installer="0.1.0")
    wanted = {entry.file: entry for entry in entries if entry.cell == CELL}
    assert len(wanted) == 3
    assert (document.index_path, document.python) == ("cu130/torch2.11", "cp311")
    assert {entry.file for entry in document.entries} == set(wanted)
    for entry in document.entries:
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.url))
        assert replace(entry, url=whole) == wanted[entry.file]


def test_the_python_only_wheel_has_a_document_of_its_own(entries: list[Entry]) -> None:
    data = json.loads(render(entries)["python/install-py3.json"])
    assert [entry["version"] for entry in data["entries"]] == [cell_version("python")]


def test_the_page_for_people_has_the_commands_and_the_evidence(tmp_path: Path) -> None:
    old = an_entry(tmp_path)
    new = an_entry(tmp_path, date="20260801", tests={"gpu": "NVIDIA H200", "driver": "570.1"})
    bad = an_entry(tmp_path, date="20260901", yanked="no")
    page = render([old, new, bad])["index.html"].decode().replace("&#39;", "'")
    assert f"pip install 'apex=={new.version}' --extra-index-url <span" in page
    assert "explicit = true" in page
    assert f'<code>"apex=={new.version}"</code>' in page
    assert "NVIDIA H200, driver 570.1" in page
    assert "untested on a GPU" in page
    assert re.search(r"(?<!extra)-index-url", page.replace("--extra-index-url", "")) is None


def test_an_empty_index_has_a_page() -> None:
    pages = render([])
    assert list(pages) == ["index.html"]
    assert "Nothing is published yet" in pages["index.html"].decode()


def test_torch_2_10_comes_after_2_9(entries: list[Entry]) -> None:
    page = render(entries)["index.html"].decode()
    assert re.findall(r'<h2 id="([^"]+)"', page) == [
        "cu121-torch2.4",
        "cu130-torch2.9",
        "cu130-torch2.11",
        "cu130-torch2.11-norm.sm90",
        "python",
    ]


HOSTILE = '"><script>alert(1)</script>\r\nX: y\0'


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    entry = an_entry(tmp_path, yanked=HOSTILE, tests={"gpu": HOSTILE}, torch=HOSTILE)
    for path, page in render([entry]).items():
        if path.endswith(".html"):
            assert Links(page).tags.count("script") == (path == "index.html"), path
        else:
            json.loads(page)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text())
def test_no_text_opens_a_tag(one_entry: Entry, text: str) -> None:
    tags = Links(render([replace(one_entry, yanked="")])["index.html"]).tags
    page = render([replace(one_entry, yanked=text, tests={"gpu": text})])["index.html"]
    assert Links(page).tags == tags


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("file", '"><script>.whl', "not the file name"),
        ("file", "a\r\nb.whl", "not the file name"),
        ("file", "a\0b.whl", "not the file name"),
        ("file", "../a.whl", "not the file name"),
        ("url", "javascript:alert(1)", "not a web or a relative"),
        ("url", "//other.example/a.whl", "not a web or a relative"),
        ("url", "file:///etc/passwd", "not a web or a relative"),
        ("distribution", "apex</a>", "not a name"),
        ("distribution", "../apex", "not a name"),
        ("suffix", "../..", "not a suffix"),
        ("suffix", "norm/../..", "not a suffix"),
        ("version", "1.0 <b>", "not a version"),
        ("sha256", 64 * "/", "not a sha256"),
        ("metadata_sha256", '"><b>', "not a sha256"),
    ],
)
def test_what_no_page_may_say_is_refused(tmp_path: Path, field: str, value: str, said: str) -> None:
    entry = replace(an_entry(tmp_path), **{field: value})
    with pytest.raises(PublishError, match=said):
        render([entry])


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    entry = replace(an_entry(tmp_path), suffix="..", url="javascript:x", version="?")
    with pytest.raises(PublishError) as raised:
        render([entry])
    assert len(str(raised.value).splitlines()) == 3


def test_one_name_with_two_contents_is_refused(tmp_path: Path) -> None:
    one = an_entry(tmp_path)
    with pytest.raises(PublishError, match="held by 2 entries"):
        render([one, replace(one, sha256=64 * "b")])


def test_an_absolute_address_stays(tmp_path: Path) -> None:
    url = "https://github.com/o/r/releases/download/v1/a%2Bb.whl"
    pages = render([an_entry(tmp_path, url=url)])
    for path in ("simple/apex/index.html", "simple/apex/index.json", "install-cp311.json"):
        assert url in pages[f"cu130/torch2.11/{path}"].decode()


def test_only_pages_look_like_pages(entries: list[Entry]) -> None:
    assert all(PAGE.fullmatch(path) for path in render(entries) if path != "index.html")
    for other in ("index.html", "docs/index.html", "files/ab/index.html", "cu130/notes.html"):
        assert not PAGE.fullmatch(other)


def test_rebase_and_back() -> None:
    url = file_url("a+b.whl", sha256="ab")
    assert url == "files/ab/a%2Bb.whl"
    there = rebase(url, start="", to="cu130/torch2.11/simple/apex")
    assert there == "../../../../files/ab/a%2Bb.whl"
    assert rebase(there, start="cu130/torch2.11/simple/apex", to="") == url
