from pathlib import Path

import pytest

from apex_installer.errors import ToolkitError
from apex_installer.make import needs, toolkit
from apex_installer.make.compose import check_whole, complete_toolkit, lay_links, nvidia_folders
from apex_installer.make.needs import HostCompiler, Target, parse_gcc_version, target_faults
from apex_installer.make.surroundings import build_environment
from apex_installer.make.toolkit import gcc_limit, list_candidates, parse_top

DRY_RUN = """\
#$ _NVVM_BRANCH_=nvvm
#$ _HERE_=/usr/local/cuda-13.0/bin
#$ TOP=/usr/local/cuda-13.0/bin/..
"""
HOST_CONFIG = """\
#if defined(__GNUC__)
#if __GNUC__ > 15
#error -- unsupported GNU version! gcc versions later than 15 are not supported!
#endif /* __GNUC__ > 15 */
"""
DEBIAN = """\
c++ (Debian 12.2.0-14+deb12u1) 12.2.0
Copyright (C) 2022 Free Software Foundation, Inc.
"""
CLANG = "Debian clang version 16.0.6 (15~deb12u1)\nTarget: x86_64-pc-linux-gnu\n"


def test_the_toolkit_of_an_nvcc_is_what_it_says_itself() -> None:
    assert parse_top(DRY_RUN) == "/usr/local/cuda-13.0"
    assert parse_top("nvcc fatal") is None


def test_nvcc_s_limit_is_read_from_its_header() -> None:
    assert gcc_limit(HOST_CONFIG) == 15
    assert gcc_limit("") is None


def test_compilers_are_told_apart() -> None:
    assert parse_gcc_version(DEBIAN) == ("12.2.0", True)
    assert parse_gcc_version(CLANG) == ("16.0.6", False)
    assert parse_gcc_version("sh: not found") is None


def test_places_are_looked_at_in_order_and_once() -> None:
    found = list_candidates(
        "12.1", environ={"CUDA_HOME": "/usr/local/cuda", "PATH": ""}, extra=["/mine"]
    )
    assert [(one.home, one.how) for one in found] == [
        ("/mine", "--toolkit"),
        ("/usr/local/cuda", "CUDA_HOME"),
        ("/usr/local/cuda-12.1", "/usr/local/cuda-12.1"),
    ]


def test_every_toolkit_that_is_refused_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    releases = {"/home": "13.0", "/usr/local/cuda": "12.4"}
    monkeypatch.setattr(toolkit, "read_release", releases.get)
    with pytest.raises(ToolkitError) as refused:
        toolkit.find_toolkit("12.1", environ={"CUDA_HOME": "/home", "PATH": ""})
    assert str(refused.value) == (
        "no CUDA toolkit equals torch's 12.1: CUDA_HOME (/home) is CUDA 13.0; "
        "/usr/local/cuda-12.1 is not there; /usr/local/cuda is CUDA 12.4; "
        "install cuda-nvcc-12-1 or set CUDA_HOME to a 12.1 toolkit"
    )


def test_a_minor_that_differs_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit, "read_release", lambda _home: "12.10")
    with pytest.raises(ToolkitError):
        toolkit.find_toolkit("12.1", environ={"PATH": ""})


def compilers(monkeypatch: pytest.MonkeyPatch, there: dict[str, tuple[str, bool]]) -> None:
    monkeypatch.setattr(needs, "_read_compiler", lambda name, _path: there.get(name))
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/usr/bin/{name}")


def test_the_default_compiler_is_taken_where_nvcc_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compilers(monkeypatch, {"c++": ("12.2.0", True)})
    found = needs.find_host_compiler(limit=12, environ={"PATH": ""})
    assert found == HostCompiler("c++", "12.2.0", is_gcc=True, environ={})


def test_an_older_compiler_beside_a_too_new_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(monkeypatch, {"c++": ("13.2.0", True), "g++-11": ("11.4.0", True)})
    found = needs.find_host_compiler(limit=12, environ={"PATH": ""})
    assert (found.cxx, dict(found.environ)) == ("g++-11", {"CXX": "g++-11", "CC": "gcc-11"})


def test_a_compiler_that_is_too_new_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compilers(monkeypatch, {"c++": ("13.2.0", True)})
    with pytest.raises(ToolkitError, match=r"c\+\+ is gcc 13.2.0, but .* 12 at most: apt-get inst"):
        needs.find_host_compiler(limit=12, environ={"PATH": ""})


def test_a_compiler_that_was_asked_for_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(monkeypatch, {"g++-13": ("13.2.0", True), "g++-11": ("11.4.0", True)})
    with pytest.raises(ToolkitError, match=r"g\+\+-13 is gcc 13.2.0"):
        needs.find_host_compiler(limit=12, environ={"PATH": "", "CXX": "g++-13"})


def test_no_compiler_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    compilers(monkeypatch, {})
    with pytest.raises(ToolkitError, match=r"no g\+\+ .*: apt-get install g\+\+"):
        needs.find_host_compiler(limit=12, environ={"PATH": ""})


def test_what_the_interpreter_lacks_is_named_at_once(tmp_path: Path) -> None:
    target = Target(
        header=str(tmp_path / "Python.h"), version="3.10", torch_directory="", setuptools=False
    )
    faults = target_faults(target, "/py")
    assert [fault.rpartition(": ")[2] for fault in faults] == [
        "apt-get install python3.10-dev",
        "has no torch; give the --python that has it",
        "/py -m pip install setuptools",
    ]


def make_files(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path), encoding="utf-8")


def test_links_join_nvcc_and_torchs_headers_and_the_first_wins(tmp_path: Path) -> None:
    nvcc, wheel, out = tmp_path / "nvcc", tmp_path / "nvidia/cu13", tmp_path / "out"
    make_files(
        nvcc, "bin/nvcc", "include/cuda.h", "include/crt/host_config.h", "lib/libcudart.so.13"
    )
    make_files(wheel, "include/cuda.h", "include/crt/other.h", "include/cusparse.h")
    make_files(wheel, "lib/libcublas.so.13", "lib/libcudart.so.13")
    lay_links([str(nvcc), str(wheel)], into=str(out))
    assert (out / "include/cuda.h").read_text() == str(nvcc / "include/cuda.h")
    assert (out / "include/cusparse.h").exists()
    assert (out / "include/crt/host_config.h").exists()
    assert (out / "include/crt/other.h").exists()
    assert (out / "lib64/libcudart.so").read_text() == str(nvcc / "lib/libcudart.so.13")
    assert (out / "lib/libcublas.so").exists()
    lay_links([str(nvcc)], into=str(out))  # again: the old one is replaced
    assert not (out / "include/cusparse.h").exists()


def test_a_toolkit_in_use_is_not_laid_anew(tmp_path: Path) -> None:
    nvcc, into = tmp_path / "nvcc", tmp_path / "into"
    make_files(nvcc, "bin/nvcc", "include/cuda_runtime.h", "include/crt/host_config.h")
    make_files(tmp_path, "nvidia/cu13/include/cusparse.h", "nvidia/cu13/lib/libcudart.so.13")
    make_files(tmp_path, "nvidia/cu13/include/cublas_v2.h", "nvidia/cu13/include/cusolverDn.h")

    def complete() -> int:
        made = complete_toolkit(
            toolkit.Toolkit(str(nvcc), "13.0", "CUDA_HOME"),
            torch_directory=str(tmp_path / "torch"),
            into=str(into),
        )
        assert made.home == str(into)
        return into.stat().st_ino

    first = complete()
    assert complete() == first
    make_files(tmp_path, "nvidia/cudnn/include/cudnn.h")
    assert complete() != first
    assert (into / "include/cudnn.h").exists()


def test_torchs_cuda_folders_are_found_in_both_layouts(tmp_path: Path) -> None:
    make_files(
        tmp_path, "torch/version.py", "nvidia/cublas/include/x.h", "nvidia/cuda_runtime/lib/y"
    )
    make_files(tmp_path, "nvidia/__init__.py", "nvidia/empty/z")
    found = nvidia_folders(str(tmp_path / "torch"))
    assert [Path(one).name for one in found] == ["cublas", "cuda_runtime"]


def test_what_a_toolkit_lacks_is_named(tmp_path: Path) -> None:
    make_files(tmp_path, "include/cuda_runtime.h", "include/crt/host_config.h")
    with pytest.raises(ToolkitError, match=r"lacks include/cublas_v2.h, .*, lib64/libcudart"):
        check_whole(str(tmp_path), "CUDA_HOME")


def test_only_known_variables_reach_a_compiler_and_the_others_are_named() -> None:
    environ, removed = build_environment(
        {
            "PATH": "/bin",
            "CXX": "g++-12",
            "NVCC_APPEND_FLAGS": "-G",
            "APEX_ALL_CONTRIB_EXT": "1",
            "APEX_INSTALL_JOBS": "3",
            "TORCH_CUDA_ARCH_LIST": "7.0",
            "MAX_JOBS": "1",
            "CFLAGS": "-O0",
            "CPLUS_INCLUDE_PATH": "/x",
            "EDITOR": "vi",
        },
        flags={"APEX_CUDA_EXT": "1"},
        cuda_home="/cuda",
        architectures="9.0+PTX",
        temporary="/t",
    )
    assert removed == (
        *("APEX_ALL_CONTRIB_EXT", "CFLAGS", "CPLUS_INCLUDE_PATH", "MAX_JOBS"),
        *("NVCC_APPEND_FLAGS", "TORCH_CUDA_ARCH_LIST"),
    )
    assert environ == {
        "PATH": "/cuda/bin:/bin",
        "CXX": "g++-12",
        "APEX_CUDA_EXT": "1",
        "TORCH_CUDA_ARCH_LIST": "9.0+PTX",
        "CUDA_HOME": "/cuda",
        "CUDA_VISIBLE_DEVICES": "",
        "LC_ALL": "C",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": "315532800",
        "TMPDIR": "/t",
        "TORCH_EXTENSIONS_DIR": "/t",
        "TORCH_NO_COMPILER_WRAPPER": "1",
    }
