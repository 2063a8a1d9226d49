"""What the words of the command line name: packages, wheels, modules, folders, addresses."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from apex_installer.deadline import Deadline
from apex_installer.errors import DownloadError, InstallError, TrustError, UsageError
from apex_installer.examine import archive, find
from apex_installer.examine.find import find_subject
from apex_installer.examine.subject import for_one_python
from support import fault_server as server
from support.fault_server import FaultServer
from support.targets import add_foreign
from support.tiny_elf import TinyElf
from support.wheels import MODULE, VERSION, make_wheel, tiny_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from apex_installer.examine.subject import Subject

SUFFIX = ".cpython-311-x86_64-linux-gnu.so"
OTHER = ".cpython-310-x86_64-linux-gnu.so"


@dataclass
class Place:
    """An app's `sys.path` of one folder, and a folder to unpack into."""

    root: Path

    @property
    def packages(self) -> Path:
        return self.root / "site-packages"

    def add(self, *files: str) -> None:
        for file in files:
            path = self.packages / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(TinyElf().data() if ".so" in file else b"")

    def describe(self, info: str, **texts: str) -> None:
        folder = self.packages / info
        folder.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_text(text)

    def find(self, text: str, *, offline: bool = False, has_scratch: bool = True) -> Subject:
        scratch = self.root / "scratch"
        scratch.mkdir(exist_ok=True)
        return find_subject(
            text,
            path=(str(self.root / "nothing"), str(self.packages)),
            suffix=SUFFIX,
            recipe=tiny_recipe(),
            folder=str(scratch) if has_scratch else "",
            fetch=(False, Deadline(20), offline),
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "site-packages").mkdir()
    return Place(tmp_path)


def names(subject: Subject) -> list[str]:
    return sorted(one.name for one in subject.found)


# -- packages ------------------------------------------------------------------------------------


def test_a_package_with_all_modules_of_its_distribution(place: Place) -> None:
    """flash_attn's one module lies beside it, not in it: RECORD says whose it is."""
    place.add("flash_attn/__init__.py", f"flash_attn_2_cuda{SUFFIX}", f"flash_attn/a/b{SUFFIX}")
    place.add(f"other{SUFFIX}", "flash_attn/libx.so.2", "flash_attn/data.sorted")
    record = f"flash_attn/__init__.py,,\nflash_attn_2_cuda{SUFFIX},sha256=x,9\ngone.so,,\n"
    metadata = "Name: flash-attn\nRequires-Dist: torch==2.4.0\n"
    place.describe("flash_attn-2.5.9.dist-info", RECORD=record, METADATA=metadata)
    for text in ("flash_attn", "flash-attn"):
        found = place.find(text)
        assert (found.kind, found.version, found.made_for) == ("package", "2.5.9", "2.4")
    assert names(place.find("flash_attn")) == [
        "flash_attn.a.b",
        "flash_attn.libx",
        "flash_attn_2_cuda",
    ]


def test_a_distribution_of_another_name_is_found_by_record(place: Place) -> None:
    place.add("cv2/__init__.py", "cv2/cv2.abi3.so")
    place.describe("opencv_python-4.1.dist-info", RECORD="cv2/__init__.py,,\ncv2/cv2.abi3.so,,\n")
    assert place.find("cv2").version == "4.1"
    assert names(place.find("opencv-python")) == ["cv2.cv2"]


def test_an_egg_lists_its_top_level_names(place: Place) -> None:
    place.add("apex/__init__.py", f"amp_C{SUFFIX}", f"else{SUFFIX}")
    place.describe("apex-0.1-py3.11.egg-info", **{"top_level.txt": "amp_C\napex\n"})
    found = place.find("apex")
    assert (names(found), found.version, found.is_ours) == (["amp_C"], "0.1", True)


def test_the_recipe_s_modules_belong_to_its_package_whatever_is_listed(place: Place) -> None:
    place.add("apex/__init__.py", f"{MODULE}{SUFFIX}", f"unrelated{SUFFIX}")
    assert names(place.find("apex")) == [MODULE]


@pytest.mark.parametrize("text", ["amp_C", "pkg.deep.one", "plain"])
def test_a_module_by_its_import_name(place: Place, text: str) -> None:
    place.add(f"amp_C{SUFFIX}", "pkg/deep/one.abi3.so", "pkg/deep/two.so", "plain.so")
    assert names(place.find(text)) == [text]


def test_one_that_this_python_would_not_take_is_found_too(place: Place) -> None:
    place.add(f"pkg/x{OTHER}", "pkg/__init__.py", f"amp_C{OTHER}", "apex/__init__.py")
    assert names(place.find("pkg")) == ["pkg.x"]


def test_of_builds_for_several_pythons_one_counts(place: Place) -> None:
    place.add(f"pkg/x{OTHER}", f"pkg/x{SUFFIX}", "pkg/y.abi3.so", f"pkg/y{OTHER}", f"pkg/z{OTHER}")
    found = for_one_python(place.find("pkg").found, SUFFIX)
    assert sorted(one.file for one in found) == [f"pkg/x{SUFFIX}", "pkg/y.abi3.so", f"pkg/z{OTHER}"]


@pytest.mark.parametrize("text", ["nothing_of_it", "a b", "-x", "a..b"])
def test_what_is_no_package_is_usage(place: Place, text: str) -> None:
    with pytest.raises(UsageError, match=r"no nothing_of_it on|is no path, address or"):
        place.find(text)


# -- files ---------------------------------------------------------------------------------------


def test_a_module_and_a_folder(place: Place) -> None:
    place.add("pkg/m.so", "pkg/sub/n.so")
    assert names(place.find(str(place.packages / "pkg/m.so"))) == ["m"]
    found = place.find(str(place.packages / "pkg"))
    assert (found.kind, names(found)) == ("package", ["pkg.m", "pkg.sub.n"])


def test_the_folder_of_a_package_stands_for_the_package(place: Place) -> None:
    place.add("apex/__init__.py", f"{MODULE}{SUFFIX}", "apex/a.so")
    found = place.find(str(place.packages / "apex"))
    assert (names(found), found.is_ours) == (["apex.a", MODULE], True)


def test_a_checkout_does_not_stand_for_what_is_installed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.root / "checkout/apex").mkdir(parents=True)
    (place.root / "checkout/plain").touch()
    monkeypatch.chdir(place.root / "checkout")
    place.add("apex/__init__.py", f"{MODULE}{SUFFIX}", "plain/m.so")
    assert names(place.find("apex")) == [MODULE]
    assert names(place.find("plain")) == ["plain.m"]
    assert place.find("./apex").found == ()


def test_a_wheel(place: Place) -> None:
    made = make_wheel(place.root, module_bytes={MODULE: TinyElf().data()})
    found = place.find(str(made.path))
    assert (found.kind, found.title, found.is_ours) == ("wheel", f"apex {VERSION}", True)
    assert found.tags == ("cp311-cp311-linux_x86_64",)
    assert found.made_for == "2.11"
    assert (names(found), found.notes) == ([MODULE], ())
    assert found.holds("apex/normalization/__init__.py")
    assert found.holds("apex/normalization")
    assert not found.holds("apex/norm")


def test_a_wheel_of_no_wheel_s_name_has_the_tags_that_it_states(place: Place) -> None:
    made = make_wheel(place.root)
    renamed = made.path.rename(place.root / "x.whl")
    assert place.find(str(renamed)).tags == ("cp311-cp311-linux_x86_64",)


def test_each_of_several_tags_counts(place: Place) -> None:
    made = make_wheel(place.root)
    name = "apex-1-cp310.cp311-abi3-manylinux1_x86_64.manylinux_2_28_x86_64.whl"
    assert len(place.find(str(made.path.rename(place.root / name))).tags) == 4


def test_a_variants_label_is_no_tag(place: Place) -> None:
    made = make_wheel(place.root, variant="sm90")
    assert place.find(str(made.path)).tags == ("cp311-cp311-linux_x86_64",)


def test_what_is_installed_stands_beside_an_unpacked_wheel(place: Place) -> None:
    """An rpath to a neighbour's folder leads there; what the wheel brings itself comes first."""
    place.add("nvidia/lib/libx.so.1", f"{MODULE}{SUFFIX}")
    made = make_wheel(place.root, module_bytes={MODULE: TinyElf(soname="mine").data()})
    root = place.root / "scratch/wheel"
    place.find(str(made.path))
    assert (root / "nvidia/lib/libx.so.1").is_file()
    assert b"mine" in (root / f"{MODULE}{SUFFIX}").read_bytes()


def test_a_wheel_that_an_install_would_refuse_is_read_all_the_same(place: Place) -> None:
    wheel = place.root / "big-1.0-cp311-cp311-linux_x86_64.whl"
    with wheel.open("wb") as file, zipfile.ZipFile(file, "w") as whole:
        with whole.open("big-1.0.data/platlib/big/m.so", "w", force_zip64=True) as member:
            member.write(TinyElf().data())
        whole.writestr("big-1.0.dist-info/METADATA", "Name: big\nVersion: 1.0\n")
    found = place.find(str(wheel))
    assert [(one.name, one.file) for one in found.found] == [("big.m", "big/m.so")]
    assert found.notes[0].startswith("an install would refuse this archive: it has ")


BAD_WHEELS = {
    "not a zip behind its first bytes": (b"PK and no more", "cannot be read as a wheel"),
    "cut off": (None, "cannot be read as a wheel"),
}


@pytest.mark.parametrize("name", BAD_WHEELS)
def test_a_wheel_that_nobody_can_read(place: Place, name: str) -> None:
    data, says = BAD_WHEELS[name]
    wheel = make_wheel(place.root).path
    wheel.write_bytes(data or wheel.read_bytes()[:-40])
    with pytest.raises(TrustError, match=says):
        place.find(str(wheel))


def test_a_name_that_is_no_utf8(place: Place) -> None:
    wheel = place.root / "x.whl"
    with zipfile.ZipFile(wheel, "w") as whole:
        whole.writestr("x-1.dist-info/MÄTADATA", "Name: x\n")
    wheel.write_bytes(wheel.read_bytes().replace("Ä".encode(), b"\xff\xff"))
    with pytest.raises(TrustError, match="cannot be read as a wheel: 'utf-8' codec"):
        place.find(str(wheel))


@pytest.mark.parametrize("name", ["../m.so", "/m.so", "a\\m.so", "a//m.so"])
def test_a_module_that_leads_outside_is_not_written(place: Place, name: str) -> None:
    wheel = place.root / "x.whl"
    with zipfile.ZipFile(wheel, "w") as whole:
        whole.writestr("x-1.dist-info/METADATA", "Name: x\n")
        whole.writestr("placeholder", TinyElf().data())
        whole.infolist()[1].filename = name
    with pytest.raises(TrustError, match="which leads outside or is no plain path"):
        place.find(str(wheel))
    assert not (place.root / "m.so").exists()


def test_a_wheel_of_too_much(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_UNPACKED", 100)
    with pytest.raises(TrustError, match="holds modules of 0 MB, more than 0 MB"):
        place.find(str(make_wheel(place.root).path))


def test_an_archive_that_is_no_wheel(place: Place) -> None:
    path = place.root / "x.zip"
    with zipfile.ZipFile(path, "w") as whole:
        whole.writestr("x", "")
    with pytest.raises(TrustError, match="is a zip archive, but no wheel: it has no dist-info"):
        place.find(str(path))


def test_a_file_of_another_kind_and_none_are_usage(place: Place) -> None:
    path = place.root / "x.so"
    path.write_text("text")
    with pytest.raises(UsageError, match="neither a wheel nor an extension module"):
        place.find(str(path))
    with pytest.raises(UsageError, match=r"/nowhere/x\.whl: No such file"):
        place.find("/nowhere/x.whl")


# -- addresses -----------------------------------------------------------------------------------


def test_a_file_address_is_not_copied(place: Place) -> None:
    made = make_wheel(place.root / "a b")
    found = place.find(made.path.as_uri())
    assert found.title == f"apex {VERSION}"
    assert [path.name for path in (place.root / "scratch").iterdir()] == ["wheel"]


def test_an_address_is_fetched_and_not_verified(place: Place) -> None:
    made = make_wheel(place.root / "a")
    escaped = made.entry.file.replace("+", "%2B")
    with FaultServer({f"/x/{escaped}": server.answer(made.path.read_bytes())}) as served:
        url = f"{served.url}/x/{escaped}"
        found = place.find(url)
    assert found.tags == ("cp311-cp311-linux_x86_64",), "by the file's name, unescaped"
    assert "not verified" in found.notes[0]
    assert found.where == url


ADDRESSES: dict[str, tuple[server.Handler, type[InstallError], str]] = {
    "not there": (server.status("404 Not Found"), DownloadError, r"not there \(HTTP 404\)"),
    "a page": (server.answer(b"<!doctype html>"), TrustError, "neither a wheel .* sign-in page"),
    "too much": (server.answer(b"x" * 2000), TrustError, "longer than 1000 bytes, the most that"),
    "cut off": (server.truncated(b"PK", announced=9), DownloadError, "cut off"),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_that_is_no_good(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, kind, says = ADDRESSES[name]
    monkeypatch.setattr(find, "MOST_FETCHED", 1000)
    with FaultServer({"/x.whl": handler}) as served, pytest.raises(kind, match=says):
        place.find(f"{served.url}/x.whl")


def test_another_attempt_begins_anew(place: Place) -> None:
    data = make_wheel(place.root / "a").path.read_bytes()
    handler = server.then(server.truncated(data[:-50], announced=len(data)), server.answer(data))
    with FaultServer({"/x.whl": handler}) as served:
        assert place.find(f"{served.url}/x.whl").title == f"apex {VERSION}"


def test_without_a_temporary_directory_only_what_is_unpacked_fails(place: Place) -> None:
    place.add("pkg/m.so")
    assert names(place.find("pkg", has_scratch=False)) == ["pkg.m"]
    made = make_wheel(place.root)
    for text in (str(made.path), made.path.as_uri(), "https://example.invalid/x.whl"):
        with pytest.raises(DownloadError, match=r"no temporary directory .*: set TMPDIR"):
            place.find(text, has_scratch=False)


def test_addresses_are_held_to_the_rules_of_an_index(place: Place) -> None:
    with pytest.raises(UsageError, match="plain http is taken from this machine alone"):
        place.find("http://example.invalid/x.whl")
    with pytest.raises(DownloadError, match="--offline, and https://example"):
        place.find("https://example.invalid/x.whl", offline=True)
    with pytest.raises(UsageError, match="is not an https"):
        place.find("ftp://example.invalid/x.whl")


def test_an_unrelated_package_is_described(place: Place) -> None:
    add_foreign(place.packages)
    found = place.find("apex")
    assert (found.title, found.is_ours, found.found) == ("apex 0.9.10.dev0", True, ())
