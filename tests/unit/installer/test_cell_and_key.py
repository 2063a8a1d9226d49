"""Cells parse back; keys depend on every input and on nothing else."""

from dataclasses import fields, replace

import pytest

from apex_installer.errors import UsageError
from apex_installer.model.cell import Cell
from apex_installer.model.key import BuildInputs

INPUTS = BuildInputs(
    python="cp310",
    torch="2.4.0+cu121",
    torch_git="abc",
    cuda="12.1",
    cxx11_abi=False,
    modules=("amp_C", "fused_layer_norm_cuda"),
    architectures="8.0;9.0+PTX",
    recipe_digest="0" * 64,
)


@pytest.mark.parametrize(
    "label",
    [
        "cp310-torch2.4-cu121-linux_x86_64",
        "cp313t-torch2.11-cu130-linux_aarch64",
        "cp39-torch2.1-cu118-linux_x86_64",
    ],
)
def test_a_cell_parses_back(label: str) -> None:
    assert Cell.parse(label).label == label


def test_a_cell_knows_its_index_path() -> None:
    assert Cell.parse("cp310-torch2.4-cu121-linux_x86_64").index_path == "cu121/torch2.4"


@pytest.mark.parametrize("label", ["", "cp310", "py3-torch2.4-cu121-linux_x86_64", "cp310-2.4"])
def test_what_is_no_cell_is_refused_with_the_form(label: str) -> None:
    with pytest.raises(UsageError, match=r"cp310-torch2\.4-cu121-linux_x86_64"):
        Cell.parse(label)


def test_every_input_changes_the_key() -> None:
    other = {
        "python": "cp311",
        "torch": "2.4.1+cu121",
        "torch_git": "abd",
        "cuda": "12.4",
        "cxx11_abi": True,
        "modules": ("amp_C",),
        "architectures": "9.0",
        "recipe_digest": "1" * 64,
    }
    assert set(other) == {field.name for field in fields(BuildInputs)}
    keys = {replace(INPUTS, **{name: value}).key for name, value in other.items()}
    assert len(keys | {INPUTS.key}) == len(other) + 1


def test_the_order_of_modules_does_not_change_the_key() -> None:
    assert replace(INPUTS, modules=INPUTS.modules[::-1]).key == INPUTS.key
