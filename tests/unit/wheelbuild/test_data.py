"""Each refusal of the data, by one change to a folder that is sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.farm_data import NEW, OLD, small_data, write_data
from wheelbuild.data import load_data
from wheelbuild.errors import DataError


def test_the_small_folder_is_sound(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    assert [row.cell.label for row in data.matrix.rows] == [
        "cp310-torch2.4-cu121-linux_x86_64",
        "cp311-torch2.11-cu130-linux_x86_64",
        "cp312-torch2.11-cu130-linux_x86_64",
    ]
    assert data.matrix.rows[0].torch == "2.4.0+cu121"
    assert data.directory == tmp_path


PARTS = "[[toolkits.parts]]"
AGAIN = '[[cells]]\ntorch = "2.4"\ncudas = ["12.1"]\npythons = ["cp310"]\nwhy = "x"\n'
BUILD = """
[[torch.builds]]
cuda = "12.1"
index = "https://example.invalid/"
policy = "manylinux_2_17"
cxx11_abi = true
architectures = "9.0"
"""
EXCLUDED = """\
[[exclusions]]
pythons = ["cp310"]
why = "a"
[[exclusions]]
torches = ["2.4"]
why = "b"
"""
REFUSALS = {
    # the recipe
    "unknown key": ("recipe.toml", 'package = "apex"', 'pakage = "apex"', "3: pakage: unknown key"),
    "missing key": ("recipe.toml", 'package = "apex"\n', "", "no 'package': a string is wanted"),
    "type": ("recipe.toml", "cpu_seconds = 100", 'cpu_seconds = "100"', "52: modules.norm_cuda"),
    "ranges overlap": ("recipe.toml", '"2.7"', '"2.6"', "torch 2.6 is served by old too"),
    "range upside down": ("recipe.toml", '"2.6"', '"2.3"', "2.3 is below torch_min"),
    "same commit": ("recipe.toml", NEW, OLD, "refs[1].commit: is that of old too"),
    "same name": ("recipe.toml", 'name = "new"', 'name = "old"', "'old' is here twice"),
    "short commit": ("recipe.toml", NEW, "b" * 7, "40 hex digits"),
    "way of flags": ("recipe.toml", '["argv"]', '["args"]', "'args' is none of argv, environment"),
    "default group": ("recipe.toml", 'default = "core"', 'default = "corr"', "near: core"),
    "required group": ("recipe.toml", 'required_by_default = "norm"', 'required_by_default = "n"',
                       "group 'n' is unknown"),
    "module of a group": ("recipe.toml", '["norm_cuda", "plain_c"]', '["norm_cuda", "plain"]',
                          "groups.core.modules: module 'plain' is unknown; near: plain_c"),
    "module provided": ("recipe.toml", 'modules = ["norm_cuda"]\n\n[[provides]]',
                        'modules = ["none"]\n\n[[provides]]', "provides[0].modules: module 'none'"),
    "ref provided at": ("recipe.toml", 'modules = ["extra_cuda"]\nrefs = ["new"]',
                        'modules = ["extra_cuda"]\nrefs = ["nwe"]', "ref 'nwe' is unknown"),
    "provided, not made": ("recipe.toml", 'modules = ["extra_cuda"]\nrefs = ["new"]',
                           'modules = ["extra_cuda"]', "extra_cuda is not made at old"),
    "ref of a module": ("recipe.toml", 'refs = ["new"]', 'refs = ["x"]', "ref 'x' is unknown"),
    "group's name": ("recipe.toml", "[groups.extra]", "[groups.sm90]", "goes into versions"),
    "no test": ("recipe.toml", 'test = "tests/plain_c.py"\n', "", "no 'test'"),
    "lacks a stranger": ("recipe.toml", 'test = "tests/plain_c.py"',
                         'test = "tests/plain_c.py"\nstandin_lacks = ["apex.contrib.FusedAdam"]',
                         "standin_lacks: name 'apex.contrib.FusedAdam' is unknown"),
    "test is not there": ("recipe.toml", "tests/plain_c.py", "tests/plain.py", "no such file"),
    "no flag": ("recipe.toml", 'environment = ["APEX_CPP_EXT"]\n', "",
                "modules.plain_c: no 'environment', which new takes its flags by"),
    "no source": ("recipe.toml", 'git_url = "https://example.invalid/apex"\n', "",
                  "exactly one of git_url and source"),
    "source is not there": ("recipe.toml", 'git_url = "https://example.invalid/apex"',
                            'source = "src"', "source: no such folder"),
    "requirement": ("recipe.toml", '"numpy<2"', '"scipy<2"', "'scipy<2' is not about numpy"),
    # the matrix
    "variants is a flag": ("matrix.toml", 'why = "the second"',
                           'why = "the second"\nvariants = "yes"', "where true or false is wanted"),
    "unknown torch": ("matrix.toml", 'torch = "2.11"', 'torch = "2.12"', "no [[torch]] has"),
    "unknown build": ("matrix.toml", '["13.0"]', '["12.8"]', "torch 2.11.0 has no 12.8 build"),
    "unknown Python": ("matrix.toml", '["cp311", "cp312"]', '["cp310"]', "no wheel for cp310"),
    "cell twice": ("matrix.toml", "[[exclusions]]",
                   AGAIN + "[[exclusions]]",
                   "16: cells[2]: cp310-torch2.4-cu121-linux_x86_64 is here twice"),
    "torch twice": ("matrix.toml", 'minor = "2.11"', 'minor = "2.4"', "torch 2.4 is here twice"),
    "build twice": ("matrix.toml", '\n[[torch]]\nminor = "2.11"',
                    BUILD + '\n[[torch]]\nminor = "2.11"', "builds[1].cuda: 12.1 is here twice"),
    "release of another": ("matrix.toml", '"2.4.0"', '"2.5.0"', "2.5.0 is no release of torch 2.4"),
    "architecture of torch": ("matrix.toml", '"8.0;9.0+PTX"', '"8.0;9.0;12.0+PTX"',
                              "torch 2.4 does not know 12.0"),
    "architecture": ("matrix.toml", '"8.0;9.0+PTX"', '"sm_90"', "is not an architecture"),
    "PTX below": ("matrix.toml", '"8.0;9.0+PTX"', '"8.0+PTX;9.0"',
                  "PTX of 8.0 is below the machine code of 9.0; write 9.0+PTX"),
    "excluded twice": ("matrix.toml", "[[exclusions]]",
                       EXCLUDED + "[[exclusions]]",
                       "19: exclusions[1]: cp310-torch2.4-cu121-linux_x86_64 is excluded by excl"),
    "excludes everything": ("matrix.toml", 'pythons = ["cp313t"]\n', "", "excludes everything"),
    "policy": ("matrix.toml", '"manylinux_2_17"', '"manylinux1"', "manylinux_2_28"),
    # toolkits
    "toolkit twice": ("toolkits.toml", '"13.0"', '"12.1"', "12.1 is here twice"),
    "hash": ("toolkits.toml", "1" * 64, "1" * 63, "64 hex digits"),
    "release of a toolkit": ("toolkits.toml", '"12.1.1"', '"12.2.1"', "12.2.1 is no release of"),
    "how": ("toolkits.toml", '"archives"', '"archive"', "near: archives"),
    "no parts": ("toolkits.toml", PARTS, "[[toolkits.part]]", "unknown key; near: parts"),
    # one against another
    "no ref for a torch": ("recipe.toml", 'torch_min = "2.4"', 'torch_min = "2.5"',
                           "matrix.toml:5: cells[0].torch: no ref of the recipe serves torch 2.4"),
    "Python of a ref": ("recipe.toml", '"3.10"', '"3.12"',
                        "matrix.toml:13: cells[1].pythons: new needs Python 3.12, not cp311"),
    "no toolkit": ("toolkits.toml", 'cuda = "12.1"\nrelease = "12.1.1"',
                   'cuda = "12.2"\nrelease = "12.2.1"', "toolkits.toml has no CUDA 12.1"),
    "architecture of CUDA": ("toolkits.toml", '"8.0", "9.0"]', '"8.0"]',
                             "nvcc of CUDA 12.1 makes no code for 9.0"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "said"), REFUSALS.values(), ids=REFUSALS)
def test_it_is_refused(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    write_data(tmp_path, (file, old, new))
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert said in str(caught.value)
    assert all(".toml:" in line for line in str(caught.value).splitlines())


def test_a_ref_without_any_module_for_a_cell_is_refused(tmp_path: Path) -> None:
    none = "cpu_seconds = {}\ncuda_min = '13.1'"
    write_data(
        tmp_path,
        ("recipe.toml", "cpu_seconds = 100", none.format(100)),
        ("recipe.toml", "cpu_seconds = 50.5", none.format(50)),
    )
    with pytest.raises(DataError, match=r"cells\[1\].cudas: new has no module for CUDA 13.0"):
        load_data(tmp_path)


def test_the_faults_of_all_files_come_at_once(tmp_path: Path) -> None:
    write_data(
        tmp_path,
        ("recipe.toml", 'date = "20240428"', 'date = "2024"'),
        ("recipe.toml", "cpu_seconds = 10\n", "cpu_seconds = 0\n"),
        ("matrix.toml", 'why = "the first"', "why = 1"),
        ("toolkits.toml", "gcc_max = 12", "gcc = 12"),
    )
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert [line.split(": ")[:2] for line in str(caught.value).splitlines()] == [
        ["recipes/apex/recipe.toml:12", "refs[0].date"],
        ["recipes/apex/recipe.toml:66", "modules.extra_cuda.cpu_seconds"],
        ["matrix.toml:8", "cells[0].why"],
        ["toolkits.toml:3", "toolkits[0]"],
        ["toolkits.toml:8", "toolkits[0].gcc"],
    ]


def test_a_file_that_is_no_toml_does_not_hide_the_faults_of_others(tmp_path: Path) -> None:
    write_data(
        tmp_path,
        ("matrix.toml", 'why = "the first"', 'why = "the first'),
        ("toolkits.toml", "size = 44", "size = 0"),
    )
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    first, second = str(caught.value).splitlines()
    assert first.startswith("matrix.toml:8: not TOML: ")
    assert second.startswith("toolkits.toml:18: toolkits[0].parts[0].size: 0 is less than 1")


@pytest.mark.parametrize("missing", ["matrix.toml", "toolkits.toml"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write_data(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(DataError, match=f"{missing}: cannot be read: No such file"):
        load_data(tmp_path)


def test_there_is_one_recipe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_data(tmp_path / "none")
    with pytest.raises(DataError, match=r"one folder with a recipe\.toml is wanted, not none"):
        load_data(tmp_path)
    write_data(tmp_path)
    (tmp_path / "recipes" / "b").mkdir()
    (tmp_path / "recipes" / "b" / "recipe.toml").write_text("")
    with pytest.raises(DataError, match="not apex, b"):
        load_data(tmp_path)


def test_our_own_data_are_sound() -> None:
    data = load_data()
    first = data.matrix.rows[0]
    assert first.cell.label == "cp310-torch2.4-cu121-linux_x86_64"
    assert first.architectures.text == "8.0;8.6;8.9;9.0+PTX"
    ref = data.recipe.find_ref(first.cell.torch)
    assert ref is not None
    assert ref.name == "25.04"
    assert len(data.recipe.list_default(ref, first.cell.cuda)) == 12
    assert data.recipe.groups["norm"] == ("fused_layer_norm_cuda",)
    numpy = {ref.name: [r.name for r in ref.requirements if r.needed_for_import]
             for ref in data.recipe.refs}  # fmt: skip
    assert numpy == {"24.04.01": ["numpy"], "25.04": ["numpy"], "26.07": []}


def test_the_two_c_plus_plus_abis_of_torch_2_6() -> None:
    abis = {
        row.cell.cuda_text: (row.cxx11_abi, row.policy)
        for row in load_data().matrix.rows
        if row.cell.torch == (2, 6)
    }
    assert abis == {"12.4": (False, "manylinux_2_17"), "12.6": (True, "manylinux_2_28")}
