"""The Python-only wheel of a ref: its pure Python tree, and our stand-ins for compiled modules.

Nothing is compiled, and nothing of the source is run: upstream's own Python-only build needs nvcc.
A module that nothing stands for is a file whose import raises ModuleNotFoundError with the remedy,
so that `except ImportError` goes on as it would without the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apex_installer.make.pack import (
    WheelParts,
    list_licenses,
    metadata_text,
    wheel_tag,
    write_wheel,
)
from apex_installer.model.entry import Entry
from apex_installer.model.entry import Module as EntryModule
from apex_installer.model.key import BuildInputs
from wheelbuild.errors import SourceError
from wheelbuild.index.builds import newest_build, next_build_tag
from wheelbuild.source import find_ref_source
from wheelbuild.stamp import UNTESTED
from wheelbuild.wheelfile import WheelName, parse_headers, read_member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelbuild.recipe import Module, Recipe, Ref

CELL = "python"
"""In place of a cell, and the version's suffix."""
ENTRY = "entry.json"
ABSENT = Path(__file__).with_name("absent_module.py")
"""What stands under the name of a module that has no stand-in."""
_PYTHON = (".py", ".pyi", ".typed")
_FIRST_DAY = 315532800
"""1980-01-01, as in every wheel of ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonOnly:
    """A packed wheel and what an index would say of it."""

    wheel: Path
    entry: Entry


def make_python_only(
    recipe: Recipe,
    ref: Ref,
    *,
    given: Path | None,
    cache: Path,
    folder: Path,
    held: Iterable[Entry] = (),
) -> PythonOnly:
    """Pack one ref's wheel into its own folder below `folder`; `given` is a checkout of it.

    `held` is what the index holds that it is for: another build of the same version there gives it
    the next build tag. SourceError where its source cannot be had, or holds no such package.
    """
    source = find_ref_source(recipe, ref, given=given, cache=cache).directory
    files = {
        **_python_tree(source, recipe.package),
        **{f"{name}.py": ABSENT for name in find_absent(recipe, ref)},
        **{f"{name}.py": path for name, path in find_standins(recipe, ref).items()},
    }
    licenses = list_licenses(str(source))
    requires = ("torch", *(one.specifier for one in ref.requirements))
    version = version_of(recipe, ref)
    metadata = metadata_text(
        distribution=recipe.distribution,
        version=version,
        summary=f"{recipe.distribution} without compiled modules, some replaced by torch's own",
        requires=requires,
        requires_python=f">={ref.python_min[0]}.{ref.python_min[1]}",
        license_files=tuple(licenses),
    )
    parts = WheelParts(
        distribution=recipe.distribution,
        version=version,
        build_tag=_build_tag(recipe, ref, held),
        tag=wheel_tag(interpreter_tag="", platform="", has_modules=False),
        files={path: str(disk) for path, disk in files.items()},
        licenses=licenses,
        metadata=metadata,
    )
    out = folder / ref.commit
    wheel = Path(write_wheel(parts, out=str(out), compression=9, date=_FIRST_DAY))
    entry = entry_of(wheel, recipe=recipe, ref=ref)
    (out / ENTRY).write_text(json.dumps(entry.to_json(), indent=1) + "\n", encoding="utf-8")
    return PythonOnly(wheel=wheel, entry=entry)


def version_of(recipe: Recipe, ref: Ref) -> str:
    """`0.1+20250411.python`."""
    return f"{recipe.base_version}+{ref.date}.{CELL}"


def find_standins(recipe: Recipe, ref: Ref) -> dict[str, Path]:
    """Module -> the file that stands for it, of the modules that this ref has."""
    return {
        module.name: recipe.directory / module.standin
        for module in _modules_of(recipe, ref)
        if module.standin
    }


def find_absent(recipe: Recipe, ref: Ref) -> tuple[str, ...]:
    """The modules of this ref that nothing stands for, sorted."""
    return tuple(sorted(one.name for one in _modules_of(recipe, ref) if not one.standin))


def _modules_of(recipe: Recipe, ref: Ref) -> list[Module]:
    return [one for one in recipe.modules.values() if not one.refs or ref.name in one.refs]


def _build_tag(recipe: Recipe, ref: Ref, held: Iterable[Entry]) -> int:
    """That of the same build if the index holds it, else the next one."""
    newest = newest_build(held, cell=CELL, version=version_of(recipe, ref))
    if newest is not None and newest.key == key_of(recipe, ref):
        return newest.build_tag
    return next_build_tag(newest)


def _python_tree(source: Path, package: str) -> dict[str, Path]:
    """The package's modules, as `find_packages` would find them; SourceError without any."""
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(source / package):
        if "__init__.py" not in names:
            folders.clear()
        else:
            kept = [Path(parent) / name for name in names if name.endswith(_PYTHON)]
            found |= {path.relative_to(source).as_posix(): path for path in kept}
    if not found:
        raise SourceError(f"{source}: holds no package {package}: name the checkout's own folder")
    return found


def key_of(recipe: Recipe, ref: Ref) -> str:
    """Names this build, from what it reads: the commit, the requirements, the stand-ins' texts."""
    standins = find_standins(recipe, ref)
    read = {
        "distribution": recipe.distribution,
        "package": recipe.package,
        "base_version": recipe.base_version,
        "commit": ref.commit,
        "date": ref.date,
        "requirements": [requirement.specifier for requirement in ref.requirements],
        "standins": {name: _sha256(path.read_bytes()) for name, path in standins.items()},
        "absent": {name: _sha256(ABSENT.read_bytes()) for name in find_absent(recipe, ref)},
    }
    return BuildInputs(
        python="py3",
        torch="",
        torch_git="",
        cuda="",
        cxx11_abi=False,
        modules=tuple(standins),
        architectures="",
        recipe_digest=_sha256(json.dumps(read, sort_keys=True).encode()),
    ).key


def entry_of(wheel: Path, *, recipe: Recipe, ref: Ref) -> Entry:
    """What an index says of it; stand-ins count as its modules, without code for any GPU."""
    content, metadata = wheel.read_bytes(), read_member(wheel, "METADATA")
    headers = parse_headers(metadata.decode())
    return Entry(
        file=wheel.name,
        url="",
        size=len(content),
        sha256=_sha256(content),
        metadata_sha256=_sha256(metadata),
        uploaded="",
        cell=CELL,
        torch="",
        torch_git="",
        cxx11_abi=False,
        key=key_of(recipe, ref),
        distribution=recipe.distribution,
        version=headers["Version"],
        build_tag=WheelName.parse(wheel.name).build_tag,
        suffix="",
        ref=ref.commit,
        modules=tuple(
            EntryModule(name=name, file=f"{name}.py", machine_code=(), ptx=(), needed=())
            for name in sorted(find_standins(recipe, ref))
        ),
        floors={},
        symbols_digest=_sha256(b""),
        requires=tuple(headers.get_all("Requires-Dist") or ()),
        tests=UNTESTED,
    )


def find_python_only(recipe: Recipe, *, folder: Path) -> dict[str, PythonOnly]:
    """Ref name -> its wheel below `folder`, of those refs whose wheel is there and fresh."""
    found: dict[str, PythonOnly] = {}
    for ref in recipe.refs:
        path = folder / ref.commit / ENTRY
        if not path.is_file():
            continue
        entry = Entry.from_json(json.loads(path.read_text(encoding="utf-8")), where=str(path))
        wheel = path.parent / entry.file
        if entry.key == key_of(recipe, ref) and wheel.is_file():
            found[ref.name] = PythonOnly(wheel=wheel, entry=entry)
    return found


def carried_files(wheels: Iterable[PythonOnly]) -> dict[str, bytes]:
    """What a zipapp's data holds of them: `python-only.json` and the wheels. Pure but for reads."""
    chosen = list(wheels)
    if not chosen:
        return {}
    manifest = {one.entry.ref: one.entry.to_json() for one in chosen}
    files = {one.entry.file: one.wheel.read_bytes() for one in chosen}
    return {"python-only.json": (json.dumps(manifest, indent=1) + "\n").encode(), **files}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
