"""A wheel is what its entry and its RECORD say, or nothing of it is installed."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apex_installer.errors import TrustError
from apex_installer.model.entry import Entry
from apex_installer.put.wheel import unpack, verify_wheel
from support.wheels import FAULTS, MODULE, VERSION, MadeWheel, make_wheel, tiny_recipe

MTIME = 1_700_000_000
RECIPE = tiny_recipe()


def verify_and_unpack(made: MadeWheel, stage: Path) -> dict[str, int]:
    stage.mkdir()
    with verify_wheel(str(made.path), entry=made.entry, recipe=RECIPE) as contents:
        return unpack(contents, str(stage), mtime=MTIME)


def with_true_digest(made: MadeWheel) -> MadeWheel:
    data = made.path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return replace(made, entry=replace(made.entry, size=len(data), sha256=digest))


def packed_again(made: MadeWheel, method: int, extra: bytes = b"") -> MadeWheel:
    """The same members, packed by another method."""
    again = io.BytesIO()
    with zipfile.ZipFile(made.path) as old, zipfile.ZipFile(again, "w", method) as new:
        for info in old.infolist():
            copy = zipfile.ZipInfo(info.filename, info.date_time)
            copy.extra, copy.compress_type = extra, method
            new.writestr(copy, old.read(info))
    made.path.write_bytes(again.getvalue())
    return with_true_digest(made)


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_a_good_one_is_unpacked_as_zipfile_would(tmp_path: Path) -> None:
    made = make_wheel(tmp_path)
    sizes = verify_and_unpack(made, tmp_path / "stage")
    with zipfile.ZipFile(made.path) as archive:
        wanted = {name: archive.read(name) for name in archive.namelist()}
    del wanted[f"apex-{VERSION}.dist-info/RECORD"]
    assert files_of(tmp_path / "stage") == wanted
    assert sizes == {name: len(data) for name, data in wanted.items()}


@pytest.mark.parametrize("build_tag", [0, 2])
def test_a_variants_label_stands_behind_its_tags(tmp_path: Path, build_tag: int) -> None:
    made = make_wheel(tmp_path, variant="sm90", build_tag=build_tag)
    assert made.entry.base_file == made.entry.file.replace("-sm90", "")
    assert verify_and_unpack(made, tmp_path / "stage")
    other = replace(made.entry, variant="", sha256=made.entry.sha256)
    with pytest.raises(TrustError, match=r"name is not|not one of|otherwise"):
        verify_wheel(str(made.path), entry=other, recipe=RECIPE)
    with pytest.raises(TrustError, match="or not of its variant"):
        Entry.from_json({**made.entry.to_json(), "variant": "sm80"}, where="here")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_large_members_and_both_methods(method: int, tmp_path: Path) -> None:
    data = {MODULE: os.urandom(2_000_000) + bytes(100_000)}
    made = packed_again(make_wheel(tmp_path, module_bytes=data), method)
    verify_and_unpack(made, tmp_path / "stage")
    (module,) = (tmp_path / "stage").glob(f"{MODULE}*")
    assert module.read_bytes() == data[MODULE]


def test_a_python_only_one(tmp_path: Path) -> None:
    made = make_wheel(tmp_path, cell="python", version="0.1+20260708.python")
    assert "apex/__init__.py" in verify_and_unpack(made, tmp_path / "stage")


def test_what_is_absent_may_stand_in_a_python_only_one_alone(tmp_path: Path) -> None:
    recipe = tiny_recipe(modules={"absent_cuda": {}})
    files = {"apex/__init__.py": "", "absent_cuda.py": "raise ModuleNotFoundError\n"}
    made = make_wheel(tmp_path, cell="python", version="0.1+20260708.python", python_files=files)
    with verify_wheel(str(made.path), entry=made.entry, recipe=recipe):
        pass
    for other in (
        make_wheel(tmp_path, python_files=files),
        make_wheel(
            tmp_path,
            cell="python",
            version="0.1+20260709.python",
            python_files={"apex/__init__.py": "", "json.py": ""},
        ),
    ):
        with (
            pytest.raises(TrustError, match="no business in this wheel"),
            verify_wheel(str(other.path), entry=other.entry, recipe=recipe),
        ):
            pass


def test_a_build_tag_and_several_platform_tags(tmp_path: Path) -> None:
    made = make_wheel(tmp_path, build_tag=2)
    assert "-2-cp311-" in made.entry.file
    verify_and_unpack(made, tmp_path / "stage")


def test_modes_and_mtimes_are_ours(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        verify_and_unpack(make_wheel(tmp_path), tmp_path / "stage")
    finally:
        os.umask(previous)
    for path in (tmp_path / "stage").rglob("*"):
        mode = 0o755 if path.is_dir() or path.suffix == ".so" else 0o644
        assert path.stat().st_mode & 0o7777 == mode, path
        assert path.is_dir() or path.stat().st_mtime_ns == MTIME * 10**9


SAYS = {
    "entry-wrong-hash": "sha256 is .*, the index says 0000",
    "entry-wrong-size": r"is \d+ bytes, the index says",
    "not-a-zip": "is not a zip archive",
    "empty": "is not a zip archive",
    "truncated": "cut off",
    "end-cut-off": "cut off",
    "prepended": "bytes before its beginning",
    "appended": "bytes behind its end",
    "comment": "bytes behind its end",
    "bit-flip": "METADATA is missing or not what RECORD says",
    "local-name-differs": "two headers for .*METADATA that disagree",
    "local-size-differs": "two headers for .*METADATA that disagree",
    "central-offset-past-end": "gap or an overlap",
    "central-size-huge": "two headers",
    "data-descriptor": "encrypted, streamed or patched",
    "encrypted": "encrypted, streamed or patched",
    "unknown-method": "packed by method 12",
    "entries-miscounted": "malformed end record",
    "directory-offset-wrong": "wrong directory offset",
    "several-disks": "malformed end record",
    "path-outside": r"leads outside .*: \.\./outside\.py",
    "path-inner-outside": r"leads outside .*: apex/\.\./\.\./outside\.py",
    "path-dot": "leads outside",
    "path-double-slash": "leads outside",
    "path-absolute": r"leads outside .*: /etc/absolute\.py",
    "path-backslash": "leads outside",
    "path-nul": r"leads outside .*: apex/nul\\x00\.py",
    "path-control": r"leads outside .*: apex/new\\nline\.py",
    "directory-member": r"not a plain file .*: apex/folder/",
    "duplicate": r"is there twice: apex/__init__\.py",
    "case-duplicate": r"is there twice: apex/__INIT__\.py",
    "file-and-directory": "is there twice: apex/normalization",
    "symlink": r"not a plain file \(a link.*: apex/link",
    "device": r"not a plain file .*: apex/device",
    "foreign-top-level": r"no business in this wheel: torch/__init__\.py",
    "shadows-stdlib": r"no business in this wheel: json\.py",
    "pth": r"no business in this wheel: apex\.pth",
    "stray-module": "no business in this wheel: amp_C",
    "data-directory": r"no business in this wheel: .*\.data/scripts/python",
    "purelib-escape": "leads outside",
    "bundled-libraries": r"no business in this wheel: apex\.libs/",
    "entry-points": r"no business in this wheel: .*entry_points\.txt",
    "installer-file": "no business in this wheel: .*INSTALLER",
    "pyc": "no business in this wheel: .*pyc",
    "two-dist-infos": "has 2 dist-infos, not one",
    "missing-module": f"lacks the module: {MODULE}",
    "missing-metadata": "METADATA is missing",
    "missing-wheel-file": "WHEEL is missing",
    "no-package": r"lacks apex/__init__\.py",
    "other-name": "METADATA's name is apec, not apex",
    "other-version": r"METADATA's version is 0\.2",
    "other-tag": "WHEEL's tags are cp310-cp310-linux_x86_64, its name says otherwise",
    "other-wheel-version": r"Wheel-Version is 2\.0",
    "record-missing": "has no RECORD",
    "record-lacks-member": r"RECORD lacks: apex/extra\.py",
    "record-lacks-file": r"RECORD lists what is not there: apex/normalization/deep/er\.py",
    "record-wrong-hash": r"apex/normalization/deep/er\.py is not what RECORD says",
    "record-wrong-size": "RECORD has another size for: .*METADATA",
    "record-no-hash": r"RECORD has no sha256 for: apex/__init__\.py",
    "record-weak-hash": "RECORD has no sha256 for",
    "record-duplicate-row": "RECORD lists twice: .*METADATA",
    "record-outside": r"RECORD lists what is not there: \.\./outside\.py",
    "record-absolute": r"RECORD lists what is not there: /etc/absolute\.py",
    "record-malformed": "RECORD cannot be read: 'one,two'",
    "bomb": "would expand from .* kB to 80 MB",
}


def test_every_fault_has_its_line() -> None:
    assert SAYS.keys() == FAULTS.keys()


@pytest.mark.parametrize("fault", FAULTS)
def test_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    made = make_wheel(tmp_path, fault=fault)
    with pytest.raises(TrustError, match=SAYS[fault]) as caught:
        verify_and_unpack(made, tmp_path / "stage")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{made.entry.file}: ")
    outside = {path.name for path in tmp_path.iterdir()} - {"stage", made.path.name}
    assert not outside


def test_all_faults_at_once(tmp_path: Path) -> None:
    made = make_wheel(tmp_path, fault="missing-module", metadata_sha256="1" * 64)
    entry = replace(made.entry, distribution="other")
    with pytest.raises(TrustError) as caught:
        verify_and_unpack(replace(made, entry=entry), tmp_path / "stage")
    for fault in ("lacks the module", "not the one of the index", "its dist-info is apex-"):
        assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"build_tag": 1}, "not the entry's name, version and build tag"),
        ({"cell": "cp310-torch2.11-cu130-linux_x86_64"}, "not one of cp310"),
        ({"cell": "cp311-torch2.11-cu130-linux_aarch64"}, "not one of cp311"),
        ({"cell": "python", "modules": ()}, "not one of python"),
        ({"version": "0.1+other"}, "not of apex 0.1.other"),
        ({"file": "apex.whl"}, "not that of a wheel"),
    ],
)
def test_an_entry_of_something_else(change: dict, says: str, tmp_path: Path) -> None:
    made = make_wheel(tmp_path)
    with pytest.raises(TrustError, match=says):
        verify_and_unpack(replace(made, entry=replace(made.entry, **change)), tmp_path / "stage")


def test_a_link_in_the_cache_is_not_followed(tmp_path: Path) -> None:
    made = make_wheel(tmp_path)
    link = tmp_path / "link.whl"
    link.symlink_to(made.path)
    with pytest.raises(TrustError, match="cannot be read"):
        verify_and_unpack(replace(made, path=link), tmp_path / "stage")


def test_a_folder_is_not_a_wheel(tmp_path: Path) -> None:
    made = make_wheel(tmp_path)
    with pytest.raises(TrustError, match="not a plain file"):
        verify_and_unpack(replace(made, path=tmp_path), tmp_path / "stage")


# -- what was verified is what is unpacked -------------------------------------------------------


def test_a_file_swapped_in_between_is_not_seen(tmp_path: Path) -> None:
    made, evil = make_wheel(tmp_path), make_wheel(tmp_path / "evil", fault="pth")
    (tmp_path / "stage").mkdir()
    with verify_wheel(str(made.path), entry=made.entry, recipe=RECIPE) as contents:
        evil.path.replace(made.path)
        sizes = unpack(contents, str(tmp_path / "stage"), mtime=MTIME)
    assert "apex/__init__.py" in sizes
    assert not (tmp_path / "stage" / "apex.pth").exists()


def test_bytes_changed_in_place_are_refused(tmp_path: Path) -> None:
    """Whatever is overwritten, RECORD and the directory are those that were verified."""
    made = make_wheel(tmp_path)
    good = made.path.read_bytes()
    other = make_wheel(
        tmp_path / "other", python_files={"apex/__init__.py": "import os  # evil\n"}
    ).path.read_bytes()
    for number, data in enumerate([other, bytes(len(good)), good[:200]]):
        made.path.write_bytes(good)
        stage = tmp_path / f"stage{number}"
        stage.mkdir()
        with verify_wheel(str(made.path), entry=made.entry, recipe=RECIPE) as contents:
            made.path.write_bytes(data)
            with pytest.raises(TrustError):
                unpack(contents, str(stage), mtime=MTIME)


def test_record_is_the_one_that_was_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever shows another RECORD to the first read alone is found out by the sha256."""
    made = packed_again(make_wheel(tmp_path), zipfile.ZIP_STORED)
    true = made.path.read_bytes()
    digest_of_first_row = true.index(b",", true.rindex(b"METADATA,sha256=")) + 1 + len("sha256=")
    assert true.count(b"METADATA,sha256=") == 1
    pread, lies = os.pread, []

    def lie(fd: int, count: int, position: int) -> bytes:
        data = bytearray(pread(fd, count, position))
        if position <= digest_of_first_row < position + count and not lies:
            lies.append(position)
            data[digest_of_first_row - position] ^= 1
        return bytes(data)

    monkeypatch.setattr(os, "pread", lie)
    with pytest.raises(TrustError, match=r"sha256 is .*, the index says"):
        verify_and_unpack(made, tmp_path / "stage")
    assert lies


# -- any bytes at all ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeWheel, dict[str, bytes]]:
    made = make_wheel(tmp_path_factory.mktemp("good"))
    stage = made.path.parent / "stage"
    verify_and_unpack(made, stage)
    return made, files_of(stage)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_changed_byte_is_refused_or_changes_nothing(
    edits: list[tuple[float, int]],
    good: tuple[MadeWheel, dict[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With the digest of the changed file: no other exception, and no other file, ever."""
    made, files = good
    data = bytearray(made.path.read_bytes())
    for place, value in edits:
        data[int(place * len(data))] = value
    directory = tmp_path_factory.mktemp("changed")
    changed = replace(made, path=directory / made.path.name)
    changed.path.write_bytes(bytes(data))
    try:
        verify_and_unpack(with_true_digest(changed), directory / "stage")
    except TrustError:
        return
    assert files_of(directory / "stage") == files


@pytest.mark.parametrize(
    ("extra", "refused"),
    [
        (b"UT\x05\x00\x01\x00\x00\x00\x00", False),
        (b"\x01\x00\x08\x00" + bytes(8), True),
        (b"\x75\x70\x05\x00\x01\x00\x00\x00\x00", True),
        (b"UT\x50\x00\x01", True),
        (b"U", True),
    ],
    ids=["time", "zip64", "unicode-path", "too-long", "cut-off"],
)
def test_extra_fields(extra: bytes, refused: bool, tmp_path: Path) -> None:
    time = b"UT\x05\x00\x01\x00\x00\x00\x00"
    made = packed_again(make_wheel(tmp_path), zipfile.ZIP_DEFLATED, extra=time)
    data = made.path.read_bytes().replace(time, extra.ljust(len(time), b"\x00")[: len(time)])
    made.path.write_bytes(data)
    changed = with_true_digest(made)
    if not refused:
        verify_and_unpack(changed, tmp_path / "stage")
        return
    with pytest.raises(TrustError, match="extra field"):
        verify_and_unpack(changed, tmp_path / "stage")
