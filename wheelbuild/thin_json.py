"""The thin part's data, generated: recipe.json, checks.json, toolkits.json.

They are apart because pods pay for what they parse: an install that finds everything in place
reads recipe.json alone. The checks are Python texts, read for `check --run`; the toolkits are
read when something has to be compiled.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apex_installer.model.arch import version_text
from apex_installer.model.recipe import Recipe as ThinRecipe
from wheelbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apex_installer.model.arch import Version
    from wheelbuild.data import FarmData
    from wheelbuild.recipe import Module, Recipe, Ref
    from wheelbuild.toolkits import Toolkits

SCHEMA = 1


def thin_texts(data: FarmData) -> dict[str, str]:
    """Return the text of each file by its name; the same data gives the same bytes."""
    return {
        "recipe.json": recipe_json(data.recipe),
        "checks.json": checks_json(data.recipe),
        "toolkits.json": toolkits_json(data.toolkits),
    }


def write_thin_texts(data: FarmData, *, folder: Path | None = None) -> tuple[Path, ...]:
    """Write what differs into the installed package's `data` folder; return what was written.

    UsageError for another data folder than our own: that is what a zipapp is packed from.
    """
    if folder is None and not data.is_ours:
        raise UsageError(
            f"--write is for our own data, not for {data.directory}: "
            "wheelbuild zipapp packs another folder's"
        )
    into = folder or thin_folder()
    written = []
    for name, text in thin_texts(data).items():
        if _read(into / name) != text:
            (into / name).write_text(text, encoding="utf-8")
            written.append(into / name)
    return tuple(written)


def list_stale(data: FarmData, *, folder: Path | None = None) -> tuple[str, ...]:
    """Names of files that are not what this data makes."""
    into = folder or thin_folder()
    return tuple(name for name, text in thin_texts(data).items() if _read(into / name) != text)


def thin_folder() -> Path:
    """Where the generated files lie: `apex_installer/data`."""
    with resources.as_file(resources.files("apex_installer") / "data") as folder:
        return folder


def thin_recipe(recipe: Recipe) -> ThinRecipe:
    """Return the recipe as the thin part sees it, so that both read `--require` words alike."""
    return ThinRecipe.from_json(recipe_json(recipe))


def recipe_json(recipe: Recipe) -> str:
    """Return the text of recipe.json: `apex_installer.model.recipe.Recipe` reads it."""
    groups = {name: list(modules) for name, modules in recipe.groups.items()}
    return _text(
        {
            "schema": SCHEMA,
            "distribution": recipe.distribution,
            "package": recipe.package,
            "base_version": recipe.base_version,
            "git_url": recipe.git_url,
            "required_by_default": sorted(recipe.groups[recipe.required_by_default]),
            "groups": {**groups, "default": sorted(recipe.groups[recipe.default])},
            "provides": {name: list(modules) for name, modules in recipe.provides.items()},
            "requirements": _requirements(recipe),
            "refs": [_ref(ref) for ref in recipe.refs],
            "modules": {name: _module(one, recipe) for name, one in recipe.modules.items()},
        }
    )


def checks_json(recipe: Recipe) -> str:
    """Return the text of checks.json: module -> the text of its test."""
    return _text(
        {
            name: (recipe.directory / module.test).read_text(encoding="utf-8")
            for name, module in recipe.modules.items()
        }
    )


def toolkits_json(toolkits: Toolkits) -> str:
    """Return the text of toolkits.json: what `apex_installer.make.pins` reads."""
    found = {
        version_text(toolkit.cuda): {
            "release": toolkit.release,
            "how": toolkit.how,
            "base_url": toolkit.base_url,
            "gcc_max": toolkit.gcc_max,
            "clang_max": toolkit.clang_max,
            "architectures": list(toolkit.architectures),
            "parts": [asdict(part) for part in toolkit.parts],
            "headers": [asdict(part) for part in toolkit.headers],
        }
        for toolkit in toolkits.toolkits.values()
    }
    requirements = [asdict(part) for part in toolkits.build_requirements]
    apt = {"apt": asdict(toolkits.apt)} if toolkits.apt else {}
    return _text({"schema": SCHEMA, "toolkits": found, "build_requirements": requirements, **apt})


def _requirements(recipe: Recipe) -> dict[str, list[dict[str, Any]]]:
    """Per commit; `*`, for a commit that is not known here, is what all of them need."""
    per_ref = {
        ref.commit: [
            {
                "name": one.name,
                "specifier": one.specifier,
                "module": one.module,
                "needed_for_import": one.needed_for_import,
            }
            for one in ref.requirements
        ]
        for ref in recipe.refs
    }
    first, *others = per_ref.values()
    common = [one for one in first if all(one in other for other in others)]
    return {**per_ref, "*": common}


def _ref(ref: Ref) -> dict[str, Any]:
    return {
        "commit": ref.commit,
        "name": ref.name,
        "date": ref.date,
        "torch_min": version_text(ref.torch_min),
        "torch_max": _optional(ref.torch_max),
        "flags": list(ref.flags),
        "cxx_standard": ref.cxx_standard,
        "python_min": version_text(ref.python_min),
    }


def _module(module: Module, recipe: Recipe) -> dict[str, Any]:
    return {
        "argv": list(module.argv),
        "environment": dict(module.environment),
        "refs": _commits(module.refs, recipe.refs),
        "cuda_min": _optional(module.cuda_min),
        "cpu_seconds": module.cpu_seconds,
        **({"standin_lacks": list(module.standin_lacks)} if module.standin_lacks else {}),
    }


def _commits(names: Iterable[str], refs: Iterable[Ref]) -> list[str]:
    return [ref.commit for ref in refs if ref.name in names]


def _optional(version: Version | None) -> str | None:
    return None if version is None else version_text(version)


def _text(value: Mapping[str, Any]) -> str:
    """Insertion order is kept: of two names with the same last part the first one has it."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
