"""The digest changes with what a cell's build reads of the data, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.farm_data import OLD, small_data
from wheelbuild.plan import plan

FIRST = "cp310-torch2.4-cu121"

READ = {
    "commit": ("recipe.toml", OLD, "c" * 40),
    "date": ("recipe.toml", "20240428", "20240429"),
    "base version": ("recipe.toml", '"0.1"', '"0.2"'),
    "modules": ("recipe.toml", '["norm_cuda", "plain_c"]', '["norm_cuda"]'),
    "flag": ("recipe.toml", "--cpp_ext", "--cpp"),
    "requirement": ("recipe.toml", "numpy<2", "numpy<3"),
    "C++ standard": ("recipe.toml", "c++17", "c++20"),
    "compiler": ("toolkits.toml", "1" * 64, "3" * 64),
    "release of CUDA": ("toolkits.toml", "12.1.1", "12.1.2"),
}

NOT_READ = {
    "comment": ("recipe.toml", "schema = 1", "# a comment\nschema = 1"),
    "reason": ("recipe.toml", 'why = "a test"', 'why = "another"'),
    "figure": ("recipe.toml", "cpu_seconds = 100", "cpu_seconds = 90"),
    "another ref": ("recipe.toml", "20260707", "20260708"),
    "range": ("recipe.toml", 'torch_max = "2.6"', 'torch_max = "2.5"'),
    "module of another group": ("recipe.toml", "--extra", "--more"),
    "variable of a ref that takes options": ("recipe.toml", "APEX_CPP_EXT", "APEX_CPP"),
    "what people ask for": ("recipe.toml", "FusedRMSNorm", "FusedRMS"),
    "test": ("tests/norm_cuda.py", "norm", "other"),
    "git host": ("recipe.toml", "example.invalid", "mirror.invalid"),
    "another torch's row": ("matrix.toml", '"8.0;9.0;12.0+PTX"', '"8.0;9.0+PTX"'),
    "this row's reason": ("matrix.toml", "the first", "the best"),
    "another CUDA's compiler": ("toolkits.toml", "2" * 64, "3" * 64),
    "where it lies": ("toolkits.toml", "https://example.invalid/", "https://mirror.invalid/"),
}


def digest(folder: Path, *changes: tuple[str, str, str]) -> str:
    return plan(small_data(folder, *changes), cells=[FIRST])[0].recipe_digest


@pytest.mark.parametrize("change", READ.values(), ids=READ)
def test_what_the_build_reads_changes_it(tmp_path: Path, change: tuple[str, str, str]) -> None:
    assert digest(tmp_path / "a", change) != digest(tmp_path / "b")


@pytest.mark.parametrize("change", NOT_READ.values(), ids=NOT_READ)
def test_what_it_does_not_read_leaves_it(tmp_path: Path, change: tuple[str, str, str]) -> None:
    assert digest(tmp_path / "a", change) == digest(tmp_path / "b")


def test_it_is_64_hex_digits(tmp_path: Path) -> None:
    assert len(bytes.fromhex(digest(tmp_path))) == 32
