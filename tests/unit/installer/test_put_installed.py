from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apex_installer.put.install import install_wheel
from apex_installer.put.installed import Installed, find_metadata, read_installed
from apex_installer.put.intact import record_faults
from support.targets import FOREIGN_VERSION, add_foreign
from support.wheels import VERSION, make_wheel, tiny_environment, tiny_recipe

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = tiny_recipe()


def read(target: Path, *path: Path) -> Installed | None:
    return read_installed(str(target), RECIPE, [str(one) for one in path or (target,)])


def put(target: Path, wheels: Path) -> Installed:
    target.mkdir(exist_ok=True)
    made = make_wheel(wheels)
    return install_wheel(
        str(made.path),
        entry=made.entry,
        environment=tiny_environment(target),
        recipe=RECIPE,
        old=None,
    )


def test_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    assert read(tmp_path / "none") is None


def test_ours(tmp_path: Path) -> None:
    put(tmp_path / "target", tmp_path)
    found = read(tmp_path / "target")
    assert found is not None
    assert (found.owner, found.version, found.replaceable) == ("ours", VERSION, True)
    assert found.size > 0
    assert record_faults(found) == ()


def test_without_its_receipt_it_is_not_ours(tmp_path: Path) -> None:
    installed = put(tmp_path / "target", tmp_path)
    (tmp_path / "target" / installed.dist_info / "apex_install.json").unlink()
    found = read(tmp_path / "target")
    assert found is not None
    assert (found.owner, found.replaceable) == ("apex-install", False)


@pytest.mark.parametrize(
    ("installer", "record", "owner", "replaceable"),
    [
        ("pip", True, "pip", True),
        ("uv", True, "uv", True),
        ("conda", True, "conda", False),
        (None, True, "unknown", False),
        ("pip", False, "pip", False),
        (None, False, "unknown", False),
    ],
)
def test_foreign(
    tmp_path: Path, *, installer: str | None, record: bool, owner: str, replaceable: bool
) -> None:
    add_foreign(tmp_path, installer=installer, record=record)
    found = read(tmp_path)
    assert found is not None
    assert (found.owner, found.version) == (owner, FOREIGN_VERSION)
    assert (found.has_record, found.replaceable) == (record, replaceable)


def test_a_package_that_nothing_describes(tmp_path: Path) -> None:
    (tmp_path / "apex").mkdir()
    (tmp_path / "apex" / "__init__.py").touch()
    found = read(tmp_path)
    assert found is not None
    assert (found.owner, found.version, found.dist_info) == ("unknown", "", "")
    assert not found.replaceable
    assert record_faults(found) == ("has no RECORD",)


def test_an_egg_info(tmp_path: Path) -> None:
    (tmp_path / "apex-0.1-py3.10.egg-info").mkdir()
    (tmp_path / "apex.py").touch()
    found = read(tmp_path)
    assert found is not None
    assert (found.version, found.has_record, found.replaceable) == ("0.1", False, False)


def test_an_editable_one(tmp_path: Path) -> None:
    add_foreign(tmp_path, files={"__editable__.apex-0.1.pth": "/src/apex\n"})
    found = read(tmp_path)
    assert found is not None
    assert found.editable
    assert not found.replaceable


def test_an_editable_one_by_its_direct_url(tmp_path: Path) -> None:
    add_foreign(
        tmp_path,
        files={
            f"apex-{FOREIGN_VERSION}.dist-info/direct_url.json": '{"dir_info": {"editable": true}}'
        },
    )
    found = read(tmp_path)
    assert found is not None
    assert found.editable


def test_a_link_to_a_checkout_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "target"
    add_foreign(target)
    (target / "apex").rename(tmp_path / "checkout")
    (target / "apex").symlink_to(tmp_path / "checkout")
    found = read(target)
    assert found is not None
    assert not found.replaceable


def test_metadata_without_a_package_is_no_install(tmp_path: Path) -> None:
    (tmp_path / "apex-0.1.dist-info").mkdir()
    assert read(tmp_path) is None
    assert find_metadata(str(tmp_path), "Apex") == ("apex-0.1.dist-info",)


def test_a_folder_without_init_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "first" / "apex").mkdir(parents=True)
    add_foreign(tmp_path / "second")
    found = read(tmp_path / "second", tmp_path / "first", tmp_path / "second")
    assert found is not None
    assert found.directory == str(tmp_path / "second")


def test_names_that_only_begin_alike(tmp_path: Path) -> None:
    for name in ("apex_extra-1.dist-info", "apex-ai-1.0.dist-info", "xapex-1.dist-info"):
        (tmp_path / name).mkdir()
    assert find_metadata(str(tmp_path), "apex") == ()


def test_the_first_on_the_path_counts_as_import_has_it(tmp_path: Path) -> None:
    first, target, last = tmp_path / "first", tmp_path / "target", tmp_path / "last"
    target.mkdir()
    add_foreign(first)
    add_foreign(last, installer=None, record=False)
    before = read(target, first, target, last)
    assert before is not None
    assert (before.directory, before.replaceable) == (str(first), False)
    behind = read(target, target, last)
    assert behind is not None
    assert (behind.directory, behind.replaceable) == (str(last), True), "ours would stand before it"


def test_ours_is_preferred_to_a_leftover_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "target", tmp_path)
    stale = tmp_path / "target" / "apex-0.0.dist-info"
    stale.mkdir()
    (stale / "INSTALLER").write_text("pip\n")
    found = read(tmp_path / "target")
    assert found is not None
    assert found.version == VERSION


def test_a_broken_record_counts_as_none(tmp_path: Path) -> None:
    add_foreign(tmp_path)
    (tmp_path / f"apex-{FOREIGN_VERSION}.dist-info" / "RECORD").write_text("not a row\n")
    found = read(tmp_path)
    assert found is not None
    assert not found.has_record


def test_intact_names_what_is_wrong(tmp_path: Path) -> None:
    target = tmp_path / "target"
    put(target, tmp_path)
    (target / "apex" / "normalization" / "deep" / "er.py").unlink()
    (target / "apex" / "__init__.py").write_text("changed")
    (target / "apex" / "mine.txt").write_text("extra")
    (target / "apex" / "__pycache__").mkdir()
    (target / "apex" / "__pycache__" / "x.pyc").touch()
    found = read(target)
    assert found is not None
    assert record_faults(found) == (
        "files are missing: apex/normalization/deep/er.py",
        "files were changed: apex/__init__.py",
        "files that RECORD does not know: apex/mine.txt",
    )


def test_a_developed_one_behind_the_target(tmp_path: Path) -> None:
    """`setup.py develop`: a link in the target, the checkout further behind on `sys.path`."""
    target, checkout = tmp_path / "target", tmp_path / "checkout"
    target.mkdir()
    add_foreign(checkout, record=False, installer=None)
    path = (str(target), str(checkout))
    found = read_installed(str(target), tiny_recipe(), path)
    assert found is not None
    assert (found.editable, found.replaceable) == (False, True), "behind: it is but hidden"
    (target / "apex.egg-link").write_text(f"{checkout}\n.")
    found = read_installed(str(target), tiny_recipe(), path)
    assert found is not None
    assert (found.editable, found.replaceable) == (True, False)
