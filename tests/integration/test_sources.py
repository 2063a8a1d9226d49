"""Sources in the index: the same bytes each time, by commit, beside what publishing renders."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer.deadline import Deadline
from apex_installer.errors import TrustError, UsageError
from apex_installer.get.cache import Cache, CacheLocation
from apex_installer.get.sources import find_archive
from apex_installer.get.supply import Supply
from apex_installer.make.unpack import unpack_archive
from support.machine import SMALL
from wheelbuild.cli import main as farm
from wheelbuild.data import load_data

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

REF = load_data(SMALL).recipe.refs[1]


def publish(folder: Path, *words: str) -> dict[str, Any]:
    """`sources.json` after the farm's command."""
    common = ["-q", "--data", str(SMALL), "--cache", str(folder / "farm")]
    assert farm([*common, "sources", "--index", str(folder / "index"), *words]) == 0
    document: dict[str, Any] = json.loads((folder / "index/sources.json").read_text())
    return document


def supply_of(cache: Cache) -> Supply:
    return Supply(
        cache=cache, deadline=Deadline(30), allow_http=False, offline=False, pypi_url="http://x/"
    )


def cache_of(folder: Path) -> Cache:
    return Cache(CacheLocation(str(folder), "--cache-dir", outlives_pod=False)).files()


def test_a_source_is_published_once_and_found_by_its_commit(tmp_path: Path) -> None:
    first = publish(tmp_path, REF.name)
    again = publish(tmp_path)
    assert first["sources"][REF.commit] == again["sources"][REF.commit]
    assert set(again["sources"]) == {ref.commit for ref in load_data(SMALL).recipe.refs}
    for one in load_data(SMALL).toolkits.build_requirements:
        assert (tmp_path / f"index/files/{one.sha256}/{one.file}").is_file()

    cache, index = cache_of(tmp_path / "cache"), (tmp_path / "index").as_uri()
    path = find_archive(REF.commit, index_url=index, cache=cache, supply=supply_of(cache))
    assert path is not None
    folder = unpack_archive(path, into=str(tmp_path / "source"))
    there = {p.relative_to(folder).as_posix() for p in (tmp_path / "source").rglob("*.c*")}
    assert there >= {"csrc/norm_kernels.cu", "csrc/norm_binding.cpp"}
    # A pod without any index finds what an earlier one left.
    assert find_archive(REF.commit, index_url=None, cache=cache, supply=supply_of(cache)) == path
    assert find_archive("f" * 40, index_url=index, cache=cache, supply=supply_of(cache)) is None


def test_publishing_and_rendering_leave_sources_alone(tmp_path: Path) -> None:
    publish(tmp_path, REF.name)
    before = (tmp_path / "index/sources.json").read_bytes()
    assert farm(["-q", "index", "--index", str(tmp_path / "index")]) == 0
    assert (tmp_path / "index/sources.json").read_bytes() == before


def test_an_unknown_ref_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(SMALL), "sources", "--index", str(tmp_path / "index"), "26.99"]
    assert farm(words) == 2
    assert "26.99: no such ref; there are argv, environment" in capsys.readouterr().err
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    "text",
    ["[]", '{"schema": 2, "sources": {}}', '{"schema": 1}', '{"schema": 1, "sources": {"%s": 1}}'],
)
def test_a_list_that_makes_no_sense_is_not_believed(tmp_path: Path, text: str) -> None:
    (tmp_path / "sources.json").write_text(text.replace("%s", REF.commit))
    cache = cache_of(tmp_path / "cache")
    with pytest.raises(TrustError):
        find_archive(REF.commit, index_url=tmp_path.as_uri(), cache=cache, supply=supply_of(cache))


def test_an_archive_that_leads_outside_is_refused(tmp_path: Path) -> None:
    for number, (name, kind, link) in enumerate(
        [
            ("top/../../outside", tarfile.REGTYPE, ""),
            ("top/link", tarfile.SYMTYPE, "../../outside"),
            ("top/link", tarfile.SYMTYPE, "/etc"),
            ("top/device", tarfile.CHRTYPE, ""),
            ("top/hard", tarfile.LNKTYPE, "top/other"),
        ]
    ):
        path = tmp_path / f"{number}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member)
        with pytest.raises(TrustError):
            unpack_archive(str(path), into=str(tmp_path / f"into-{number}"))
        assert not (tmp_path / "outside").exists()


def test_a_plain_http_index_is_refused(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    with pytest.raises(UsageError):
        find_archive("0" * 40, index_url="http://host/", cache=cache, supply=supply_of(cache))
