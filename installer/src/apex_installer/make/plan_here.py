"""What a pod has to compile: the recipe's ref for its torch, for its own GPUs alone. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from apex_installer.errors import CompileError
from apex_installer.model.arch import Architectures, parse_version, version_text
from apex_installer.model.cell import Cell
from apex_installer.model.environment import Environment
from apex_installer.model.key import BuildInputs
from apex_installer.model.recipe import Recipe
from apex_installer.values import dataclass

_DIGEST_SHOWN, _SOURCE_SHOWN = 8, 12


@dataclass(frozen=True)
class Wanted:
    """One build, beside its source and where it happens."""

    ref: Mapping[str, Any]
    """The recipe's row."""
    made_of: str
    """The commit, and where another source was named some digits of its sha256 after a `+`."""
    cell: Cell
    torch: str
    modules: Tuple[str, ...]
    architectures: Architectures
    suffix: str
    version: str
    argv: Tuple[str, ...]
    environment: Mapping[str, str]
    requires: Tuple[str, ...]
    cpu_seconds: Mapping[str, float]
    """Per module, one architecture."""
    recipe_digest: str
    key: str


def plan_compile(
    recipe: Recipe,
    environment: Environment,
    modules: Sequence[str],
    toolkits: Mapping[str, Any],
    *,
    source: str = "",
) -> Wanted:
    """The build of `modules` for this environment; CompileError where there is none, in words.

    `toolkits`: `data/toolkits.json`, of which the digest holds what would compile. `source`: sha256
    of a source that was named in place of the commit's, which makes it another build.
    """
    torch, cell = environment.torch, environment.cell
    ref = recipe.ref_for(torch.version)
    if cell is None or ref is None:
        raise CompileError(
            f"no {recipe.distribution} is known to compile for torch {torch.version}"
        )
    gpus = sorted({gpu.capability for gpu in environment.devices.gpus})
    if not gpus:
        raise CompileError("no GPU is visible to compile for: name it, e.g. --gpu 8.0")
    lacking = [name for name in modules if not _makes(recipe, ref, cell, name)]
    if lacking:
        raise CompileError(
            f"{ref['name']} has no {', '.join(lacking)} for CUDA {cell.cuda_text}: ask for less"
        )
    names = tuple(sorted(modules))
    architectures = Architectures(tuple(version_text(gpu) for gpu in gpus), ())
    suffix = ".".join(filter(None, (_modules_suffix(recipe, ref, cell, names), _arch(gpus))))
    argv, variables = _flags(recipe, ref, names)
    requirements = [one.specifier for one in recipe.requirements_of(ref["commit"])]
    digest = recipe_digest(
        {
            "distribution": recipe.distribution,
            "package": recipe.package,
            "base_version": recipe.raw["base_version"],
            "commit": ref["commit"],
            "date": ref["date"],
            "cxx_standard": ref["cxx_standard"],
            "requirements": requirements,
            "modules": list(names),
            "argv": argv,
            "environment": variables,
            "toolkit": _toolkit_facts(toolkits, cell),
            **({"source": source} if source else {}),
        }
    )
    inputs = BuildInputs(
        python=cell.python,
        torch=torch.version,
        torch_git=torch.git,
        cuda=cell.cuda_text,
        cxx11_abi=bool(torch.cxx11_abi),
        modules=names,
        architectures=architectures.text,
        recipe_digest=digest,
    )
    local = f"{ref['date']}.{cell.cuda_tag}.torch{cell.torch_text}.{suffix}"
    return Wanted(
        ref=ref,
        made_of=f"{ref['commit']}+{source[:_SOURCE_SHOWN]}" if source else str(ref["commit"]),
        cell=cell,
        torch=torch.version,
        modules=names,
        architectures=architectures,
        suffix=suffix,
        version=f"{recipe.raw['base_version']}+{local}",
        argv=argv,
        environment=variables,
        requires=(f"torch=={cell.torch_text}.*", *requirements),
        cpu_seconds={name: recipe.raw["modules"][name]["cpu_seconds"] for name in names},
        recipe_digest=digest,
        key=inputs.key,
    )


def modules_made(recipe: Recipe, environment: Environment, names: Sequence[str]) -> Tuple[str, ...]:
    """Those of `names` that the ref for this torch has, for its CUDA; sorted, each once."""
    cell, ref = environment.cell, recipe.ref_for(environment.torch.version)
    if cell is None or ref is None:
        return ()
    return tuple(sorted(_of_ref(recipe, ref, cell, names)))


def recipe_digest(read: Mapping[str, Any]) -> str:
    """sha256 over what one build reads of the recipe; farm and pod say it of the same facts."""
    text = json.dumps(read, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _makes(recipe: Recipe, ref: Mapping[str, Any], cell: Cell, name: str) -> bool:
    module = recipe.raw["modules"].get(name)
    if module is None or (module["refs"] and ref["commit"] not in module["refs"]):
        return False
    oldest = module["cuda_min"]
    return oldest is None or parse_version(oldest) <= cell.cuda


def _flags(
    recipe: Recipe, ref: Mapping[str, Any], modules: Sequence[str]
) -> Tuple[Tuple[str, ...], Dict[str, str]]:
    rows = [recipe.raw["modules"][name] for name in modules]
    if "argv" in ref["flags"]:
        return tuple(sorted({flag for row in rows for flag in row["argv"]})), {}
    pairs = {pair for row in rows for pair in row["environment"].items()}
    return (), dict(sorted(pairs))


def _modules_suffix(
    recipe: Recipe, ref: Mapping[str, Any], cell: Cell, modules: Tuple[str, ...]
) -> str:
    """Empty for the default set; else a group's name, or `only` and 8 hex digits, as the farm's."""
    made = {name: _of_ref(recipe, ref, cell, group) for name, group in recipe.groups.items()}
    if made["default"] <= set(modules):
        return ""
    named: List[str] = [name for name, group in made.items() if group == set(modules)]
    digest = hashlib.sha256("\n".join(modules).encode()).hexdigest()
    return named[0] if named else f"only{digest[:_DIGEST_SHOWN]}"


def _of_ref(recipe: Recipe, ref: Mapping[str, Any], cell: Cell, group: Sequence[str]) -> set[str]:
    return {name for name in group if _makes(recipe, ref, cell, name)}


def _arch(gpus: Sequence[Tuple[int, int]]) -> str:
    return ".".join(f"sm{version_text(gpu).replace('.', '')}" for gpu in gpus)


def _toolkit_facts(toolkits: Mapping[str, Any], cell: Cell) -> Optional[Mapping[str, Any]]:
    toolkit = toolkits.get("toolkits", {}).get(cell.cuda_text)
    return toolkit and {
        "release": toolkit["release"],
        "parts": sorted((part["name"], part["sha256"]) for part in toolkit["parts"]),
    }
