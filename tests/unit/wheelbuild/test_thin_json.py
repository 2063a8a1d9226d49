from __future__ import annotations

import json
from pathlib import Path

import pytest

from apex_installer.errors import UsageError
from apex_installer.model.recipe import Recipe
from support.farm_data import NEW, OLD, small_data
from wheelbuild.data import FarmData, load_data
from wheelbuild.errors import UsageError as FarmUsageError
from wheelbuild.thin_json import list_stale, thin_recipe, thin_texts, write_thin_texts


@pytest.fixture
def data(tmp_path: Path) -> FarmData:
    return small_data(tmp_path / "data")


def test_the_committed_files_are_what_the_toml_says() -> None:
    """If this fails: wheelbuild data --write."""
    assert list_stale(load_data()) == ()


def test_only_what_differs_is_written(data: FarmData, tmp_path: Path) -> None:
    assert list_stale(data, folder=tmp_path) == ("recipe.json", "checks.json", "toolkits.json")
    written = write_thin_texts(data, folder=tmp_path)
    assert [path.name for path in written] == ["recipe.json", "checks.json", "toolkits.json"]
    assert write_thin_texts(data, folder=tmp_path) == ()
    (tmp_path / "checks.json").write_text("{}")
    assert list_stale(data, folder=tmp_path) == ("checks.json",)
    assert [path.name for path in write_thin_texts(data, folder=tmp_path)] == ["checks.json"]


def test_another_folder_is_never_written_into_the_package(data: FarmData) -> None:
    with pytest.raises(FarmUsageError, match="wheelbuild zipapp packs another folder's"):
        write_thin_texts(data)
    assert list_stale(load_data()) == ()


def test_the_thin_part_reads_the_recipe(data: FarmData) -> None:
    recipe = thin_recipe(data.recipe)
    assert (recipe.distribution, recipe.package) == ("apex", "apex")
    assert recipe.required_by_default == ("norm_cuda",)
    assert recipe.groups["default"] == ("norm_cuda", "plain_c")
    assert recipe.modules_for(()) == ("norm_cuda",)
    assert recipe.modules_for(["default"]) == ("norm_cuda", "plain_c")
    assert recipe.modules_for(["apex.normalization.FusedRMSNorm", "plain_c"]) == (
        "norm_cuda",
        "plain_c",
    )


def test_what_a_stand_in_does_not_hold_is_known_by_name() -> None:
    recipe = thin_recipe(load_data().recipe)
    lacking = ("FusedNovoGrad", "apex.optimizers.FusedAdagrad", "amp_C", "core", "default")
    assert recipe.lacking_in_standins(lacking) == lacking
    held = ("FusedAdam", "apex.optimizers.FusedLAMB", "FusedSGD", "clip_grad_norm_", "norm")
    assert recipe.lacking_in_standins(held) == ()
    assert recipe.lacking_in_standins(()) == ()


def test_a_last_word_means_the_first_name_that_ends_in_it(data: FarmData) -> None:
    recipe = thin_recipe(data.recipe)
    assert recipe.modules_for(["FusedAdam"]) == ("norm_cuda",)
    assert recipe.modules_for(["apex.contrib.FusedAdam"]) == ("extra_cuda",)


def test_every_unknown_word_is_named_with_the_nearest(data: FarmData) -> None:
    with pytest.raises(UsageError) as caught:
        thin_recipe(data.recipe).modules_for(["FusedAdm", "norm", "zzz"])
    assert str(caught.value) == (
        "--require FusedAdm: unknown; near: FusedAdam, FusedRMSNorm, apex.contrib.FusedAdam; "
        "--require zzz: unknown; `default` stands for the whole default set"
    )


def test_requirements_are_per_commit(data: FarmData) -> None:
    recipe = thin_recipe(data.recipe)
    assert [one.specifier for one in recipe.requirements_of(OLD)] == ["numpy<2"]
    assert recipe.requirements_of(NEW) == ()
    assert recipe.requirements_of("f" * 40) == ()


def test_a_commit_that_is_not_known_needs_what_all_need() -> None:
    recipe = thin_recipe(load_data().recipe)
    assert [one.name for one in recipe.requirements_of("f" * 40)] == ["packaging"]


def test_what_compiles_finds_refs_and_flags(data: FarmData) -> None:
    raw = thin_recipe(data.recipe).raw
    assert (raw["base_version"], raw["git_url"]) == ("0.1", "https://example.invalid/apex")
    assert [ref["torch_max"] for ref in raw["refs"]] == ["2.6", None]
    assert raw["modules"]["extra_cuda"] == {
        "argv": ["--extra"],
        "environment": {"APEX_EXTRA": "1"},
        "refs": [NEW],
        "cuda_min": "12.4",
        "cpu_seconds": 10.0,
    }


def test_checks_lie_apart_from_what_every_start_parses(data: FarmData) -> None:
    texts = thin_texts(data)
    assert json.loads(texts["checks.json"])["norm_cuda"] == "print('norm')\n"
    assert "print(" not in texts["recipe.json"]


def test_toolkits_are_by_cuda_minor(data: FarmData) -> None:
    found = json.loads(thin_texts(data)["toolkits.json"])
    assert found["schema"] == 1
    assert found["toolkits"]["12.1"]["parts"] == [
        {
            "name": "nvcc",
            "version": "12.1.105",
            "file": "nvcc.tar.xz",
            "sha256": "1" * 64,
            "size": 44,
        }
    ]


@pytest.mark.parametrize(
    ("word", "modules"),
    [
        ("apex.normalization.FusedRMSNorm", ("fused_layer_norm_cuda",)),
        ("FusedLayerNorm", ("fused_layer_norm_cuda",)),
        ("FusedAdam", ("amp_C",)),
        ("FusedLAMB", ("amp_C",)),
        ("MLP", ("mlp_cuda",)),
        ("FusedDense", ("fused_dense_cuda",)),
        ("SoftmaxCrossEntropyLoss", ("xentropy_cuda",)),
        ("norm", ("fused_layer_norm_cuda",)),
    ],
)
def test_what_people_know_of_apex(word: str, modules: tuple[str, ...]) -> None:
    assert thin_recipe(load_data().recipe).modules_for([word]) == modules


def test_the_recipe_of_every_start_is_small() -> None:
    """A pod parses it each time, `already` included: 100 ms in all."""
    text = thin_texts(load_data())["recipe.json"]
    assert len(text) < 20_000
    assert Recipe.from_json(text).raw["schema"] == 1
