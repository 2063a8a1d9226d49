"""Objects pruned to one architecture: held against nvcc's own, and linked as any other object."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import CompileError
from apex_installer.make.prune import prune_object
from apex_installer.read.elf_image import ElfImage
from apex_installer.read.fatbin import read_architectures, read_containers
from support.tiny_fatbin import fatbin

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

KERNELS = """\
template <int N> __global__ void sum(float* x) {
  __shared__ float s[64];
  for (int i = 0; i < N; i++) s[threadIdx.x] += x[i] * N;
  x[threadIdx.x] = s[threadIdx.x];
}
extern "C" void* few() { return (void*)sum<3>; }
extern "C" void* many() { return (void*)sum<70>; }
"""
ARCHITECTURES = ("8.0", "9.0", "12.0")
# The second container is found by a pointer, as cudart finds the one of each `.cu`.
TWO_CONTAINERS = """\
__attribute__((section(".nv_fatbin"), aligned(8), used)) static const unsigned char first[] = {%s};
__attribute__((section(".nv_fatbin"), aligned(8), used)) static const unsigned char second[] = {%s};
static const unsigned char* volatile segments[] = {first, second};
static const char* volatile word = "after";
unsigned magic(int which) { return *(const unsigned*)segments[which]; }
unsigned size(int which) { return *(const unsigned*)(segments[which] + 8); }
const char* after(void) { return word; }
char nothing[64] __attribute__((aligned(8)));  /* .bss: no bytes, and so the next one's place */
"""


def flags(*architectures: str) -> list[str]:
    numbers = [arch.replace(".", "") for arch in architectures]
    return [f"-gencode=arch=compute_{one},code=sm_{one}" for one in numbers]


def device_code(path: Path) -> bytes:
    with ElfImage(str(path)) as image:
        return b"".join(image.data[one.start : one.end] for one in read_containers(image))


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def nvcc(cuda_130: Path) -> Callable[..., Path]:
    def make(folder: Path, name: str, *words: str) -> Path:
        source = folder / "kernels.cu"
        source.write_text(KERNELS, encoding="utf-8")
        out = folder / f"{name}.o"
        run(cuda_130 / "bin/nvcc", "-c", source, "-o", out, "-Xcompiler", "-fPIC", *words)
        return out

    return make


@pytest.mark.compile
@pytest.mark.parametrize("kind", [(), ("-rdc=true",)])
def test_what_is_left_is_what_nvcc_makes_for_that_architecture_alone(
    tmp_path: Path, nvcc: Callable[..., Path], kind: tuple[str, ...]
) -> None:
    ptx = "-gencode=arch=compute_120,code=compute_120"
    all_of_them = nvcc(tmp_path, "all", *flags(*ARCHITECTURES), ptx, *kind)
    assert read_architectures(str(all_of_them)).text == "8.0;9.0;12.0+PTX"
    for arch in ("8.0", "12.0"):
        pruned = tmp_path / f"pruned-{arch}.o"
        assert prune_object(str(all_of_them), arch=arch, out=str(pruned))
        assert read_architectures(str(pruned)).text == arch
        alone = nvcc(tmp_path, "alone", *flags(arch), *kind)
        assert device_code(pruned) == device_code(alone)
        assert abs(pruned.stat().st_size - alone.stat().st_size) <= 128  # alignment


def test_containers_stay_where_pointers_find_them(tmp_path: Path) -> None:
    codes = (fatbin("8.0", "8.6", "9.0", ptx=("9.0",)), fatbin("8.0", "9.0"))
    source, whole, pruned = (tmp_path / name for name in ("two.c", "two.o", "pruned.o"))
    source.write_text(TWO_CONTAINERS % tuple(", ".join(map(str, code)) for code in codes))
    run("gcc", "-c", "-fPIC", "-g", source, "-o", whole)
    assert prune_object(str(whole), arch="9.0", out=str(pruned))
    assert read_architectures(str(pruned)).text == "9.0"
    run("gcc", "-shared", pruned, "-o", tmp_path / "two.so")
    loaded = ctypes.CDLL(str(tmp_path / "two.so"))
    loaded.after.restype = ctypes.c_char_p
    assert [loaded.magic(0), loaded.magic(1)] == [-0x45AA12B0, -0x45AA12B0]
    one_cubin = len(fatbin("9.0")) - 16
    assert [loaded.size(0), loaded.size(1)] == [one_cubin, one_cubin]
    assert loaded.after() == b"after"


@pytest.fixture
def object_file(tmp_path: Path) -> Path:
    source, out = tmp_path / "one.c", tmp_path / "one.o"
    code = ", ".join(map(str, fatbin("8.0")))
    source.write_text(
        f'__attribute__((section(".nv_fatbin"), aligned(8))) char code[] = {{{code}}};'
    )
    run("gcc", "-c", source, "-o", out)
    return out


def test_an_architecture_that_is_not_held_is_refused(object_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"one\.o: holds no machine code for 8\.6"):
        prune_object(str(object_file), arch="8.6", out=str(tmp_path / "out.o"))
    assert not (tmp_path / "out.o").exists()


def test_a_linked_module_is_refused(object_file: Path, tmp_path: Path) -> None:
    run("gcc", "-shared", object_file, "-o", tmp_path / "one.so")
    with pytest.raises(CompileError, match="is not an object file"):
        prune_object(str(tmp_path / "one.so"), arch="8.0", out=str(tmp_path / "out.o"))


def test_a_damaged_object_is_refused(object_file: Path, tmp_path: Path) -> None:
    object_file.write_bytes(object_file.read_bytes()[:70])
    with pytest.raises(CompileError, match="cut short or damaged"):
        prune_object(str(object_file), arch="8.0", out=str(tmp_path / "out.o"))


def test_an_object_of_host_code_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "host.c").write_text("int answer = 42;")
    run("gcc", "-c", tmp_path / "host.c", "-o", tmp_path / "host.o")
    assert not prune_object(str(tmp_path / "host.o"), arch="8.0", out=str(tmp_path / "out.o"))
    assert not (tmp_path / "out.o").exists()
