from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from apex_installer.model.environment import Gpu
from apex_installer.put import intact
from apex_installer.put.install import install_wheel
from apex_installer.put.installed import Installed, read_installed
from apex_installer.put.receipt import Receipt, read_receipt, receipt_stands
from support.wheels import MODULE, VERSION, make_wheel, tiny_environment, tiny_recipe

RECIPE = tiny_recipe()


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    (tmp_path / "target").mkdir()
    made = make_wheel(tmp_path)
    return install_wheel(
        str(made.path),
        entry=made.entry,
        environment=tiny_environment(tmp_path / "target"),
        recipe=RECIPE,
        old=None,
    )


def receipt_of(installed: Installed) -> Receipt:
    receipt = read_receipt(installed)
    assert receipt is not None
    return receipt


def stands(
    installed: Installed, *, modules: tuple[str, ...] = (MODULE,), **changes: object
) -> str | None:
    environment = tiny_environment(installed.directory, **changes)
    return receipt_stands(
        receipt_of(installed), environment=environment, modules=modules, installed=installed
    )


def paths(installed: Installed) -> list[Path]:
    return [Path(installed.directory, path) for path in receipt_of(installed).files]


def test_stands(installed: Installed) -> None:
    assert stands(installed) is None
    assert stands(installed, gpus=(Gpu((8, 6)), Gpu((9, 0)))) is None


def test_every_file_but_itself_is_in_it_with_whole_seconds(installed: Installed) -> None:
    listed = {row.path for row in installed.rows}
    assert set(receipt_of(installed).files) == {p for p in listed if "apex_install.json" not in p}
    assert all(path.stat().st_mtime_ns % 10**9 == 0 for path in paths(installed))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": "2.11.1+cu130"}, "torch is 2.11.1.cu130, was 2.11.0.cu130"),
        ({"git": "f" * 40}, "torch_git is ffff"),
        ({"cuda": "12.8"}, "cuda is 12.8, was 13.0"),
        ({"cxx11_abi": False}, "cxx11_abi is False, was True"),
    ],
)
def test_another_torch(installed: Installed, change: dict, says: str) -> None:
    why = stands(installed, **change)
    assert why is not None
    assert why.startswith("was installed for another environment: ")
    assert says.replace(".cu", "+cu") in why


def test_another_python(installed: Installed) -> None:
    environment = tiny_environment(installed.directory)
    other = replace(environment, interpreter=replace(environment.interpreter, tag="cp312"))
    why = receipt_stands(receipt_of(installed), environment=other, modules=(), installed=installed)
    assert why == "was installed for another environment: python is cp312, was cp311"


def test_a_module_that_is_required_now(installed: Installed) -> None:
    assert stands(installed, modules=(MODULE, "amp_C")) == "lacks amp_C"


def test_a_gpu_that_it_has_no_code_for(installed: Installed) -> None:
    why = stands(installed, gpus=(Gpu((9, 0)), Gpu((12, 0), "NVIDIA B")))
    assert why == "has no code for NVIDIA B (12.0)"


def test_a_missing_file(installed: Installed) -> None:
    Path(installed.directory, "apex", "__init__.py").unlink()
    assert stands(installed) == "apex/__init__.py is missing"


def test_another_size(installed: Installed) -> None:
    with Path(installed.directory, "apex", "__init__.py").open("a") as file:
        file.write("\n")
    assert stands(installed) == "apex/__init__.py was changed"


def test_the_same_size_and_other_bytes(installed: Installed) -> None:
    path = Path(installed.directory, "apex", "__init__.py")
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, (1, 1))
    assert stands(installed) == "apex/__init__.py was changed"


def test_nothing_is_hashed_while_mtimes_agree(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intact, "is_unchanged", lambda *_: pytest.fail("hashed"))
    assert stands(installed) is None


def test_a_layer_that_rounds_mtimes_changes_nothing(installed: Installed) -> None:
    for path in paths(installed):
        found = path.stat()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 400_000_000))
    before = receipt_of(installed)
    assert stands(installed) is None
    assert receipt_of(installed) == before


def test_copied_files_are_hashed_once_and_the_receipt_renewed(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in paths(installed):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert stands(installed) is None
    assert {mtime for _, mtime in receipt_of(installed).files.values()} == {1_000_000_000}
    monkeypatch.setattr(intact, "is_unchanged", lambda *_: pytest.fail("hashed again"))
    assert stands(installed) is None
    monkeypatch.undo()
    found = read_installed(installed.directory, RECIPE, (installed.directory,))
    assert found is not None
    assert intact.record_faults(found) == ()


def test_a_receipt_that_cannot_be_renewed_still_stands(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in paths(installed):
        os.utime(path, (1_000_000_000, 1_000_000_000))

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    assert stands(installed) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1, "files": {"a": 1}}', "\xff"]
)
def test_one_that_cannot_be_read_is_none(installed: Installed, text: str) -> None:
    Path(installed.dist_info, "apex_install.json").write_bytes(text.encode("latin-1"))
    assert read_receipt(installed) is None


def test_an_entry_that_cannot_be_read(installed: Installed) -> None:
    receipt = receipt_of(installed)._replace(entry={})
    why = receipt_stands(
        receipt,
        environment=tiny_environment(installed.directory),
        modules=(),
        installed=installed,
    )
    assert why is not None
    assert "cannot be read" in why


def test_what_is_written_beside_the_install(installed: Installed) -> None:
    folder = Path(installed.dist_info)
    assert (folder / "INSTALLER").read_text() == "apex-install\n"
    assert (folder / "REQUESTED").read_bytes() == b""
    url = json.loads((folder / "direct_url.json").read_text())
    receipt = receipt_of(installed)
    assert url["url"].startswith("file:///")
    assert url["archive_info"]["hashes"] == {"sha256": receipt.sha256}
    assert (receipt.outcome, receipt.aside) == ("wheel", "")
    assert receipt.entry["version"] == VERSION
    assert receipt.key == receipt.entry["key"]
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o644}


def test_no_credentials_are_written(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    made = make_wheel(tmp_path, url="https://me:secret@a.example/w.whl")
    installed = install_wheel(
        str(made.path),
        entry=made.entry,
        environment=tiny_environment(tmp_path / "target"),
        recipe=RECIPE,
        old=None,
    )
    for path in Path(installed.dist_info).iterdir():
        assert path.is_dir() or b"secret" not in path.read_bytes(), path
