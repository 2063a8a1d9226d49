"""torch's facts from its files: version, CUDA, git hash, ROCm, C++ ABI; nothing is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import CheckError, NoTorchError
from apex_installer.read.torch_files import find_torch, read_cxx11_abi, read_torch
from support.tiny_elf import TinyElf

if TYPE_CHECKING:
    from pathlib import Path

GIT = "e4ee3be4063b7c430974252fdf7db42273388d86"
CHECK_FAIL = "_ZN3c106detail14torchCheckFailEPKcS2_jRK"
NEW_STRING, OLD_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE", "Ss"

# As the wheels of these releases have it.
TORCH_1_13 = f"""\
__version__ = '1.13.1+cu117'
debug = False
cuda = '11.7'
git_version = '{GIT}'
hip = None
"""
TORCH_2_4 = f"""\
from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '2.4.0+cu121'
debug = False
cuda: Optional[str] = '12.1'
git_version = '{GIT}'
hip: Optional[str] = None
"""
TORCH_2_11 = f"""\
from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '2.11.0+cu130'
debug = False
cuda: Optional[str] = '13.0'
git_version = '{GIT}'
hip: Optional[str] = None
rocm: Optional[str] = None
xpu: Optional[str] = None
"""
CPU = TORCH_2_11.replace("+cu130", "+cpu").replace("'13.0'", "None")
ROCM = CPU.replace("+cpu", "+rocm6.4").replace("hip: Optional[str] = None", "hip = '6.4.43482-0f2'")


def write_torch(folder: Path, text: str = TORCH_2_4) -> Path:
    package = folder / "torch"
    package.mkdir(parents=True)
    (package / "version.py").write_text(text)
    return package


@pytest.mark.parametrize(
    ("text", "version", "cuda", "hip"),
    [
        (TORCH_1_13, "1.13.1+cu117", "11.7", None),
        (TORCH_2_4, "2.4.0+cu121", "12.1", None),
        (TORCH_2_11, "2.11.0+cu130", "13.0", None),
        (CPU, "2.11.0+cpu", None, None),
        (ROCM, "2.11.0+rocm6.4", None, "6.4.43482-0f2"),
    ],
    ids=["1.13", "2.4", "2.11", "cpu", "rocm"],
)
def test_version_cuda_git_hash_and_rocm(
    tmp_path: Path, text: str, version: str, cuda: str | None, hip: str | None
) -> None:
    package = write_torch(tmp_path, text)
    torch = read_torch(str(package))
    assert (torch.version, torch.cuda, torch.hip, torch.git) == (version, cuda, hip, GIT)
    assert torch.directory == str(package)
    assert torch.cxx11_abi is None, "there is no libc10 to tell"


def test_either_quote_will_do(tmp_path: Path) -> None:
    torch = read_torch(str(write_torch(tmp_path, TORCH_2_4.replace("'", '"'))))
    assert (torch.version, torch.cuda, torch.git) == ("2.4.0+cu121", "12.1", GIT)


def test_a_name_that_only_ends_alike_is_another(tmp_path: Path) -> None:
    text = TORCH_2_4.replace("cuda: Optional", "not_cuda: Optional")
    assert read_torch(str(write_torch(tmp_path, text))).cuda is None


@pytest.mark.parametrize("text", ["", "nonsense", "__version__ = None\n", "__version__ = f()\n"])
def test_without_a_version_it_is_to_be_installed_again(tmp_path: Path, text: str) -> None:
    package = write_torch(tmp_path, text)
    with pytest.raises(NoTorchError, match=r"version\.py states no __version__: reinstall torch"):
        read_torch(str(package))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    package = write_torch(tmp_path)
    (package / "version.py").write_bytes(b"__version__ = '\xff'")
    with pytest.raises(
        NoTorchError, match=f"cannot read {package}/version.py: .*: reinstall torch"
    ):
        read_torch(str(package))
    (package / "version.py").unlink()
    with pytest.raises(NoTorchError, match=r"No such file"):
        read_torch(str(package))


@pytest.mark.parametrize(
    ("defined", "abi"),
    [
        (CHECK_FAIL + NEW_STRING, True),
        (CHECK_FAIL + OLD_STRING, False),
        ("_ZN3c105ErrorC1Ev", None),
    ],
    ids=["new", "old", "neither"],
)
def test_the_abi_is_what_libc10_defines(tmp_path: Path, defined: str, abi: bool | None) -> None:
    """Not what the release says: wheels of one release were built with either."""
    package = write_torch(tmp_path)
    TinyElf(soname="libc10.so", defines=(defined,)).write(package / "lib/libc10.so")
    assert read_torch(str(package)).cxx11_abi is abi
    assert read_cxx11_abi(str(package)) is abi


def test_a_libc10_that_is_damaged_is_named(tmp_path: Path) -> None:
    package = write_torch(tmp_path)
    (package / "lib").mkdir()
    (package / "lib/libc10.so").write_bytes(b"not an ELF file")
    with pytest.raises(CheckError, match=r"libc10\.so"):
        read_torch(str(package))


def test_the_first_on_the_path_is_the_one_that_import_takes(tmp_path: Path) -> None:
    first, second = write_torch(tmp_path / "one"), write_torch(tmp_path / "two")
    (tmp_path / "empty/torch").mkdir(parents=True)  # what an uninstall leaves
    path = [str(tmp_path / name) for name in ("missing", "empty", "one", "two")]
    assert find_torch(path) == str(first)
    assert find_torch(path[::-1]) == str(second)
    assert find_torch(path[:2]) is None
