"""The module tests of the Apex recipe: texts that stand alone, and say so in one voice."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import wheelbuild

FOLDER = Path(wheelbuild.__file__).parent / "recipes" / "apex" / "tests"
CORE = {
    "amp_C",
    "apex_C",
    "fused_dense_cuda",
    "fused_layer_norm_cuda",
    "fused_rotary_positional_embedding",
    "fused_weight_gradient_mlp_cuda",
    "generic_scaled_masked_softmax_cuda",
    "mlp_cuda",
    "scaled_masked_softmax_cuda",
    "scaled_softmax_cuda",
    "scaled_upper_triang_masked_softmax_cuda",
    "syncbn",
}
ALLOWED = {"__future__", "collections.abc", "ctypes", "dataclasses", "json", "time", "torch"}
ALLOWED |= {
    "pathlib",
    "sys",
    "torch.nn.functional",
    "typing",
    "apex.normalization",
    "apex.optimizers",
}
START, END = "# --- The same in every module test", "# --- End of what is the same."


def common_part(text: str) -> str:
    return text[text.index(START) : text.index(END)]


def test_every_core_module_has_one() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == CORE


def test_the_common_part_is_the_same_in_all() -> None:
    parts = {common_part(path.read_text()) for path in FOLDER.glob("*.py")}
    assert len(parts) == 1


@pytest.mark.parametrize("module", sorted(CORE))
def test_it_stands_alone_and_reports_under_its_own_name(module: str) -> None:
    """Nothing but the standard library, torch, Apex and the module itself is imported."""
    text = (FOLDER / f"{module}.py").read_text()
    tree = ast.parse(text, feature_version=(3, 9))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert module in imported
    assert imported <= ALLOWED | {module}
    assert f'raise SystemExit(main("{module}"' in text
