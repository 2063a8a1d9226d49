"""Reads `recipe.toml`: unknown keys, wrong types and contradictions, each with its line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from apex_installer.model.arch import version_text
from apex_installer.model.recipe import Requirement
from wheelbuild.document import near
from wheelbuild.recipe import Module, Provided, Recipe, Ref

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wheelbuild.document import Document, Table

COMMIT = r"[0-9a-f]{40}"
GROUP = r"(?!sm\d|ptx\d|only)[a-z][a-z0-9]*"
"""A group's name becomes a part of a version: one PEP 440 local segment, unlike our others."""
FLAGS = ("argv", "environment")
NEEDS = ("cudnn", "nccl", "submodules")


def parse_recipe(document: Document, *, directory: Path) -> Recipe:
    """Read a recipe; `directory` is the folder that it lies in. Faults go to the document."""
    root = document.root
    root.number("schema", at_least=1)
    source = root.text("source", default="")
    recipe = Recipe(
        distribution=root.text("distribution"),
        package=root.text("package"),
        base_version=root.text("base_version", form=r"\d+(\.\d+)*", like="0.1"),
        git_url=root.text("git_url", default="", form=r"(https|file)://.+", like="https://…"),
        source=directory / source if source else None,
        refs=tuple(_ref(table) for table in root.tables("refs")),
        modules={table.name: _module(table) for table in root.named("modules")},
        groups={table.name: _group(table) for table in root.named("groups")},
        default=root.text("default"),
        required_by_default=root.text("required_by_default"),
        provided=tuple(_provided(table) for table in root.tables("provides", needed=False)),
        directory=directory,
    )
    root.close()
    _check_source(recipe, root)
    _check_refs(recipe, document)
    _check_names(recipe, document)
    _check_files(recipe, document)
    return recipe


def _ref(table: Table) -> Ref:
    ref = Ref(
        commit=table.text("commit", form=COMMIT, like="40 hex digits"),
        name=table.text("name"),
        date=table.text("date", form=r"20\d{6}", like="20250411"),
        torch_min=table.version("torch_min"),
        torch_max=table.optional_version("torch_max"),
        why=table.text("why"),
        flags=table.choices("flags", FLAGS),
        cxx_standard=table.text("cxx_standard", form=r"c\+\+\d\d", like="c++17"),
        python_min=table.version("python_min"),
        requirements=tuple(_requirement(one) for one in table.tables("requirements", needed=False)),
    )
    if ref.torch_max is not None and ref.torch_max < ref.torch_min:
        table.fault("torch_max", f"{version_text(ref.torch_max)} is below torch_min")
    table.close()
    return ref


def _requirement(table: Table) -> Requirement:
    requirement = Requirement(
        name=table.text("name"),
        specifier=table.text("specifier"),
        module=table.text("module"),
        needed_for_import=table.flag("needed_for_import"),
    )
    table.text("why")
    if not requirement.specifier.startswith(requirement.name):
        table.fault("specifier", f"{requirement.specifier!r} is not about {requirement.name}")
    table.close()
    return requirement


def _module(table: Table) -> Module:
    name = table.name
    variables = table.texts("environment", default=())
    module = Module(
        name=name,
        argv=table.texts("argv", default=()),
        environment=dict.fromkeys(variables, "1"),
        refs=table.texts("refs", default=()),
        cuda_min=table.optional_version("cuda_min"),
        needs=table.choices("needs", NEEDS, default=()),
        cpu_seconds=table.seconds("cpu_seconds"),
        test=table.text("test", form=r"tests/[\w/]+\.py", like="tests/<module>.py"),
        standin=table.text(
            "standin", default="", form=r"standins/\w+\.py", like="standins/<module>.py"
        ),
        standin_lacks=table.texts("standin_lacks", default=()),
    )
    table.text("why", default="")
    table.close()
    return module


def _group(table: Table) -> tuple[str, ...]:
    modules = table.texts("modules")
    table.text("why")
    table.close()
    return modules


def _provided(table: Table) -> Provided:
    provided = Provided(
        names=table.forms("names", form=r"\w+(\.\w+)+", like="package.part.Name"),
        modules=table.texts("modules"),
        refs=table.texts("refs", default=()),
    )
    table.text("why", default="")
    table.close()
    return provided


def _check_source(recipe: Recipe, root: Table) -> None:
    if bool(recipe.git_url) == bool(recipe.source) and root.document.is_sound("git_url", "source"):
        root.fault("git_url", "exactly one of git_url and source is wanted")
    if recipe.source is not None and not recipe.source.is_dir():
        root.fault("source", f"no such folder: {recipe.source}")


def _check_refs(recipe: Recipe, document: Document) -> None:
    """No torch may have two refs, and names and commits tell refs apart."""
    if not document.is_sound("refs"):
        return
    for at, ref in enumerate(recipe.refs):
        for other in recipe.refs[:at]:
            place = ("refs", at)
            if ref.name == other.name:
                document.fault((*place, "name"), f"{ref.name!r} is here twice")
            if ref.commit == other.commit:
                document.fault((*place, "commit"), f"is that of {other.name} too")
            shared = max(ref.torch_min, other.torch_min)
            if ref.serves(shared) and other.serves(shared):
                text = f"torch {version_text(shared)} is served by {other.name} too"
                document.fault((*place, "torch_min"), text)


def _check_names(recipe: Recipe, document: Document) -> None:
    """Whatever names a module, a group or a ref names one that there is."""
    refs, modules = [ref.name for ref in recipe.refs], list(recipe.modules)
    for name, group in recipe.groups.items():
        _check_known(group, modules, "module", ("groups", name, "modules"), document)
    for key in ("default", "required_by_default"):
        word = str(getattr(recipe, key))
        _check_known([word] if word else [], recipe.groups, "group", (key,), document)
    for at, provided in enumerate(recipe.provided):
        _check_known(provided.modules, modules, "module", ("provides", at, "modules"), document)
        _check_known(provided.refs, refs, "ref", ("provides", at, "refs"), document)
        _check_made(recipe, provided, ("provides", at, "modules"), document)
    for module in recipe.modules.values():
        place = ("modules", module.name)
        _check_known(module.refs, refs, "ref", (*place, "refs"), document)
        needing = [name for name, needed in recipe.provides.items() if module.name in needed]
        _check_known(module.standin_lacks, needing, "name", (*place, "standin_lacks"), document)
    for name in recipe.groups:
        _check_group_name(name, document)
    _check_flags(recipe, document)


def _check_made(
    recipe: Recipe, provided: Provided, place: tuple[str | int, ...], document: Document
) -> None:
    """What a ref's package has must be built at that ref."""
    for name in provided.refs or [ref.name for ref in recipe.refs]:
        for module in provided.modules:
            made = recipe.modules.get(module)
            if made and made.refs and name not in made.refs:
                document.fault(place, f"{module} is not made at {name}: name refs that make it")


def _check_group_name(name: str, document: Document) -> None:
    if not re.fullmatch(GROUP, name):
        text = "a group's name goes into versions: a-z and 0-9, not sm…, ptx…, only…"
        document.fault(("groups", name), text)


def _check_flags(recipe: Recipe, document: Document) -> None:
    """A module says how to ask for it in each way that one of its refs takes alone."""
    for module in recipe.modules.values():
        for ref in recipe.refs:
            if module.refs and ref.name not in module.refs:
                continue
            key = "argv" if "argv" in ref.flags else "environment"
            if ref.flags and not getattr(module, key):
                text = f"no {key!r}, which {ref.name} takes its flags by"
                document.fault(("modules", module.name), text)


def _check_known(
    words: Iterable[str],
    known: Iterable[str],
    kind: str,
    place: tuple[str | int, ...],
    document: Document,
) -> None:
    for word in words:
        if word not in known:
            document.fault(place, f"{kind} {word!r} is unknown{near(word, known)}")


def _check_files(recipe: Recipe, document: Document) -> None:
    """Each module's test and stand-in are there."""
    for module in recipe.modules.values():
        for key, path in (("test", module.test), ("standin", module.standin)):
            if path and not (recipe.directory / path).is_file():
                place = ("modules", module.name, key)
                document.fault(place, f"no such file: {recipe.directory / path}")
