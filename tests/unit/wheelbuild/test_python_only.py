"""The Python-only wheel: what is in it, what its key reads, and which build tag it takes."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from support.farm_data import NEW, OLD, write_data
from wheelbuild.data import load_data
from wheelbuild.errors import SourceError
from wheelbuild.publish import publish
from wheelbuild.python_only import (
    PythonOnly,
    find_absent,
    find_python_only,
    find_standins,
    key_of,
    make_python_only,
)
from wheelbuild.recipe import Recipe
from wheelbuild.stores.directory import DirectoryStore

STANDIN = 'test = "tests/norm_cuda.py"\n\n[modules.plain_c]'


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    folder = tmp_path / "data"
    standin = STANDIN.replace("\n\n", '\nstandin = "standins/norm_cuda.py"\n\n')
    (folder / "recipes/apex/standins").mkdir(parents=True)
    (folder / "recipes/apex/standins/norm_cuda.py").write_text("__apex_fallback__ = True\n")
    write_data(folder, ("recipe.toml", STANDIN, standin))
    return load_data(folder).recipe


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("wheelbuild.source.read_head", lambda _: None)  # no checkout, says git
    source = tmp_path / "source"
    (source / "apex/parts").mkdir(parents=True)
    (source / "apex/csrc").mkdir()
    for name in ("setup.py", "LICENSE", "apex/__init__.py", "apex/parts/__init__.py"):
        (source / name).write_text("")
    (source / "apex/csrc/not_a_package.py").write_text("")
    return source


def make(recipe: Recipe, source: Path, tmp_path: Path, *, ref: str = NEW, held=()) -> PythonOnly:  # noqa: ANN001
    (chosen,) = (one for one in recipe.refs if one.commit == ref)
    cache = tmp_path / "cache"
    return make_python_only(
        recipe, chosen, given=source, cache=cache, folder=tmp_path / "made", held=held
    )


def members(made: PythonOnly) -> set[str]:
    with zipfile.ZipFile(made.wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_it_holds_packages_stand_ins_and_what_says_that_the_others_are_absent(
    recipe: Recipe, source: Path, tmp_path: Path
) -> None:
    made = make(recipe, source, tmp_path)
    packages = {"apex/__init__.py", "apex/parts/__init__.py"}
    assert members(made) == packages | {"norm_cuda.py", "plain_c.py", "extra_cuda.py"}
    assert made.wheel.name == "apex-0.1+20260707.python-py3-none-any.whl"
    assert made.entry.module_names == ("norm_cuda",)
    older = make(recipe, source, tmp_path, ref=OLD)
    assert members(older) == packages | {"norm_cuda.py", "plain_c.py"}  # as that ref has them


def test_importing_what_is_absent_says_what_would_help(
    recipe: Recipe, source: Path, tmp_path: Path
) -> None:
    made = make(recipe, source, tmp_path)
    with zipfile.ZipFile(made.wheel) as archive:
        archive.extract("plain_c.py", tmp_path / "target")
    spec = importlib.util.spec_from_file_location("plain_c", tmp_path / "target/plain_c.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ModuleNotFoundError, match="--require plain_c where") as caught:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert caught.value.name == "plain_c"
    assert "plain_c" not in sys.modules


def test_its_key_reads_stand_ins_and_what_is_absent(recipe: Recipe) -> None:
    ref = recipe.refs[1]
    key = key_of(recipe, ref)
    assert set(find_standins(recipe, ref)) == {"norm_cuda"}
    assert find_absent(recipe, ref) == ("extra_cuda", "plain_c")
    (recipe.directory / "standins/norm_cuda.py").write_text("__apex_fallback__ = True  # other\n")
    changed = key_of(recipe, ref)
    fewer = {name: one for name, one in recipe.modules.items() if name != "plain_c"}
    assert len({key, changed, key_of(replace(recipe, modules=fewer), ref)}) == 3


def test_a_changed_build_takes_the_next_build_tag_and_a_known_one_its_own(
    recipe: Recipe, source: Path, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path / "index")
    first = make(recipe, source, tmp_path)
    assert publish(first.wheel, first.entry, store=store).state == "published"
    again = make(recipe, source, tmp_path, held=store.entries())
    assert publish(again.wheel, again.entry, store=store).state == "already"
    (recipe.directory / "standins/norm_cuda.py").write_text("changed = True\n")
    second = make(recipe, source, tmp_path, held=store.entries())
    assert second.wheel.name == "apex-0.1+20260707.python-2-py3-none-any.whl"
    assert publish(second.wheel, second.entry, store=store).state == "published"
    third = make(recipe, source, tmp_path, held=store.entries())
    assert third.wheel.name == second.wheel.name
    assert publish(third.wheel, third.entry, store=store).state == "already"


def test_only_a_fresh_one_is_carried(recipe: Recipe, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    made = make(recipe, source, tmp_path)
    assert find_python_only(recipe, folder=folder) == {"new": made}
    (recipe.directory / "standins/norm_cuda.py").write_text("changed = True\n")
    assert find_python_only(recipe, folder=folder) == {}


def test_a_folder_without_the_package_is_refused(
    recipe: Recipe, source: Path, tmp_path: Path
) -> None:
    (source / "apex/__init__.py").unlink()
    with pytest.raises(SourceError, match="holds no package apex"):
        make(recipe, source, tmp_path)
