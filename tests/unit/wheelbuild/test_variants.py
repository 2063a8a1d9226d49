"""Variants: labels, what describes them, which are shown, and what one must be to lie beside."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer.model.arch import Architectures
from support.index_wheels import cell_version, write_cell_wheel
from support.jobs import make_job
from wheelbuild.index.pages import render
from wheelbuild.variants import (
    choose_architectures,
    choose_offered,
    describe,
    find_lacking,
    find_mismatch,
    index_files,
    label_of,
    read_labels,
)

if TYPE_CHECKING:
    from pathlib import Path

    from apex_installer.model.entry import Entry

FOLDER = "cu130/torch2.11/simple/apex"
DESCRIPTION = f"apex-{cell_version()}-variants.json"


@pytest.fixture
def entries(tmp_path: Path) -> tuple[Entry, ...]:
    """A plain wheel and two variants of it, as an index holds them."""
    made = [write_cell_wheel(tmp_path, variant=label).entry for label in ("", "sm80", "sm90")]
    return tuple(
        replace(one, url=f"files/{one.sha256}/x.whl", uploaded=f"2026-11-2{day}T00:00:00Z")
        for day, one in enumerate(made)
    )


def rebuilt(entry: Entry, **changes: Any) -> Entry:
    """The same as build 2."""
    file = entry.file.replace("-cp311-cp311", "-2-cp311-cp311")
    digest = ("2" + entry.sha256)[:64]
    return replace(entry, file=file, build_tag=2, sha256=digest, **changes)


@pytest.mark.parametrize(
    ("architectures", "chosen"),
    [
        ("8.0;8.6;9.0+PTX", ("8.0", "8.6", "9.0")),
        ("8.0;9.0a;10.0f;12.0", ("8.0", "12.0")),
        ("9.0+PTX", ()),
        ("9.0", ()),
    ],
)
def test_of_several_each_that_has_a_name_gets_one(
    architectures: str, chosen: tuple[str, ...]
) -> None:
    assert choose_architectures(Architectures.parse(architectures)) == chosen


def test_a_label_asks_for_machine_code_and_never_for_ptx() -> None:
    assert (label_of("9.0"), label_of("12.0")) == ("sm90", "sm120")
    described = json.loads(describe(["sm90", "sm120"]))["variants"]
    assert described == {
        "sm120": {"nvidia": {"sm_arch": ["120_real"]}},
        "sm90": {"nvidia": {"sm_arch": ["90_real"]}},
    }


def test_what_is_described_is_read_back() -> None:
    assert read_labels(describe(["sm90", "sm80"])) == ("sm80", "sm90")
    with pytest.raises(ValueError, match="not what its labels mean"):
        read_labels(describe(["sm90"]).replace(b"90_real", b"80_real"))


def test_the_page_names_the_variants_and_what_describes_them(entries: tuple[Entry, ...]) -> None:
    pages = render(entries)
    listed = {file["filename"]: file for file in json.loads(pages[f"{FOLDER}/index.json"])["files"]}
    assert set(listed) == {*(one.file for one in entries), DESCRIPTION}
    described = listed[DESCRIPTION]
    digest = described["hashes"]["sha256"]
    place = f"files/{digest}/{DESCRIPTION}"
    assert described["url"] == f"../../../../{place}".replace("+", "%2B")
    assert pages[place] == describe(["sm80", "sm90"])
    assert hashlib.sha256(pages[place]).hexdigest() == digest
    assert described["upload-time"] == "2026-11-22T00:00:00Z"
    assert f"#sha256={digest}" in pages[f"{FOLDER}/index.html"].decode()
    assert list(pages).index(place) < list(pages).index(f"{FOLDER}/index.html")


def test_a_page_without_variants_is_as_it_was(entries: tuple[Entry, ...]) -> None:
    pages = render(entries[:1])
    assert not [page for page in pages if page.endswith("-variants.json")]
    assert b"variants" not in pages["cu130/torch2.11/install-cp311.json"]


def test_variants_of_an_older_build_are_not_offered(entries: tuple[Entry, ...]) -> None:
    plain, sm80, sm90 = entries
    newer = rebuilt(plain)
    assert choose_offered([*entries, newer]) == (plain, newer)
    assert choose_offered([*entries, newer, rebuilt(sm90)]) == (plain, newer, rebuilt(sm90))
    assert choose_offered([sm80]) == ()


@pytest.mark.parametrize("yanked", [0, 2])
def test_neither_a_yanked_variant_nor_one_of_a_yanked_build_is_offered(
    entries: tuple[Entry, ...], yanked: int
) -> None:
    held = list(entries)
    held[yanked] = replace(held[yanked], yanked="wrong results")
    offered = {one.variant for one in choose_offered(held)}
    assert offered == ({""} if yanked == 0 else {"", "sm80"})
    page = json.loads(render(held)[f"{FOLDER}/index.json"])
    assert not [file for file in page["files"] if file["filename"] == held[2].file]


def test_each_version_is_described_for_itself(entries: tuple[Entry, ...]) -> None:
    other = replace(entries[1], version="0.1+20270101.cu130.torch2.11", variant="sm120")
    files = index_files("a-b", [*entries, other])
    assert [(one.name, read_labels(one.content)) for one in files] == [
        (f"a_b-{cell_version()}-variants.json", ("sm80", "sm90")),
        ("a_b-0.1+20270101.cu130.torch2.11-variants.json", ("sm120",)),
    ]


def test_what_is_lacking_is_of_this_build(entries: tuple[Entry, ...]) -> None:
    job = make_job(variants=("8.0", "9.0", "12.0"))
    assert find_lacking(job.variants, entries[0], entries) == ("sm120",)
    newer = rebuilt(entries[0])
    assert find_lacking(job.variants, newer, [*entries, newer]) == ("sm80", "sm90", "sm120")
    assert find_lacking((), newer, [newer]) == ()


def test_a_variant_lies_beside_the_plain_wheel_of_its_build(entries: tuple[Entry, ...]) -> None:
    plain, variant, _ = entries
    assert find_mismatch(variant, plain) is None
    assert "no plain wheel at all" in (find_mismatch(variant, None) or "")
    said = find_mismatch(variant, rebuilt(plain)) or ""
    assert "its build tag is none, the index's newest plain wheel has 2" in said
    said = find_mismatch(replace(variant, ref="f" * 40, torch_git="e" * 40), plain) or ""
    assert said.endswith("build: ref, torch_git differ")
