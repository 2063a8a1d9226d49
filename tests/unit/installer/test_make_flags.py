from apex_installer.make.flags import (
    for_architectures,
    generate_code,
    with_all_dependencies,
    without_debug,
    without_includes,
    without_run_path,
)
from apex_installer.model.arch import Architectures


def test_only_the_asked_architectures_are_left() -> None:
    captured = (
        *("nvcc", "-gencode", "arch=compute_70,code=sm_70", "-gencode=arch=compute_90,code=sm_90"),
        *("-arch=sm_80", "--generate-code", "arch=compute_80,code=sm_80", "-O3"),
    )
    assert for_architectures(captured, Architectures.parse("8.0;9.0a+PTX")) == (
        *("nvcc", "-O3"),
        *("-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90a,code=sm_90a"),
        "-gencode=arch=compute_90a,code=compute_90a",
    )


def test_ptx_alone_can_be_said() -> None:
    assert generate_code(Architectures.parse("9.0-PTX")) == (
        "-gencode=arch=compute_90,code=compute_90",
    )


def test_debug_information_goes_and_other_g_flags_stay() -> None:
    argv = ("g++", "-g", "-g3", "-ggdb", "-gdwarf-4", "-lineinfo", "-std=gnu++17", "-fgcse")
    assert without_debug(argv) == ("g++", "-lineinfo", "-std=gnu++17", "-fgcse")


def test_pythons_folders_go_in_both_spellings() -> None:
    argv = ("nvcc", "-I/py/include", "-I", "/py/include", "-I/torch", "-isystem", "/py/include")
    assert without_includes(argv, ["/py/include"]) == ("nvcc", "-I/torch")
    assert without_includes(("nvcc", "-I", "/torch"), ["/py"]) == ("nvcc", "-I", "/torch")


def test_run_paths_go_in_their_spellings() -> None:
    argv = (
        *("g++", "-g", "-shared", "-Wl,-rpath,/a", "-Wl,-rpath", "-Wl,/b", "-Wl,-R/c", "-R/d"),
        *("-L/a", "-Wl,-O1", "x.o", "-lc10"),
    )
    assert without_run_path(argv) == ("g++", "-shared", "-L/a", "-Wl,-O1", "x.o", "-lc10")


def test_depfiles_name_system_headers_too() -> None:
    assert with_all_dependencies(("g++", "-MMD", "-MF", "a.d")) == ("g++", "-MD", "-MF", "a.d")
