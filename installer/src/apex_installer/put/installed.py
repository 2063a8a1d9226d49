"""What is installed: the package as import would find it, and whose it is. Nothing is imported."""

from __future__ import annotations

import os
import re
from typing import Optional, Sequence, Tuple

from apex_installer.model.recipe import Recipe
from apex_installer.put.names import normalized
from apex_installer.put.record import Row, parse_record
from apex_installer.values import dataclass, replace

INSTALLER = "apex-install"
"""What we write into INSTALLER."""
RECEIPT = "apex_install.json"
OURS, UNKNOWN = "ours", "unknown"
REPLACEABLE = frozenset({OURS, "pip", "uv"})
"""Installers whose RECORD is the whole truth about what they put where."""
_METADATA = re.compile(r"^(.+?)-([^-]+)(?:-py\d.*)?\.(dist-info|egg-info)$")


@dataclass(frozen=True)
class Installed:
    """One installed package."""

    directory: str
    """The directory of `sys.path` that holds it."""
    package: str
    """Its import name."""
    dist_info: str
    """Path of its dist-info (or egg-info); empty where nothing describes it."""
    version: str
    """Empty where nothing says it."""
    rows: Tuple[Row, ...]
    """RECORD; empty without one."""
    owner: str
    """`ours`, what INSTALLER says (`pip`, `uv`, …), or `unknown`."""
    editable: bool = False
    replaceable: bool = False
    """Whether it may be put aside without being told to."""
    notes: Tuple[str, ...] = ()
    """What the swap that put it there has to say, one line each."""

    @property
    def has_record(self) -> bool:
        """Whether every file of it is known."""
        return bool(self.rows)

    @property
    def size(self) -> int:
        """Bytes, as RECORD says."""
        return sum(row.size or 0 for row in self.rows)


def read_installed(target: str, recipe: Recipe, path: Sequence[str]) -> Optional[Installed]:
    """The package that `import` would take, by the app's `sys.path`; None where there is none.

    The target counts as the last place where `path` does not name it. Leftovers of metadata without
    a package are nobody's install: the next swap takes them away.
    """
    for directory in dict.fromkeys([*path, target]):
        if not os.path.isabs(directory):
            continue
        found = _read_in(directory, recipe)
        if found is not None:
            if found.owner != OURS and not found.editable:
                found = replace(found, editable=_is_developed(recipe.distribution, path))
            return _judged(found, target=target, path=path)
    return None


def find_metadata(directory: str, distribution: str) -> Tuple[str, ...]:
    """Names of all dist-info and egg-info of the distribution in a directory, sorted."""
    try:
        names = os.listdir(directory)
    except OSError:
        return ()
    wanted = normalized(distribution)
    found = []
    for name in names:
        match = _METADATA.match(name) if name.endswith("-info") else None
        if match and normalized(match.group(1)) == wanted:
            found.append(name)
    return tuple(sorted(found))


def has_package(directory: str, package: str) -> bool:
    """A regular package or module; a folder without `__init__` is neither to us."""
    base = os.path.join(directory, package)
    return os.path.isfile(os.path.join(base, "__init__.py")) or os.path.isfile(f"{base}.py")


def _read_in(directory: str, recipe: Recipe) -> Optional[Installed]:
    metadata = find_metadata(directory, recipe.distribution)
    importable = has_package(directory, recipe.package)
    described = [_described(os.path.join(directory, name), recipe.package) for name in metadata]
    described.sort(key=lambda one: (one.owner == OURS, one.has_record), reverse=True)
    best = described[0] if described else None
    if best is not None and (importable or best.editable):
        return best
    if importable:
        return Installed(directory, recipe.package, "", "", (), UNKNOWN)
    return None


def _described(path: str, package: str) -> Installed:
    name = os.path.basename(path)
    match = _METADATA.match(name)
    record = _text(os.path.join(path, "RECORD"))
    try:
        rows = parse_record(record)
    except ValueError:
        rows = ()
    installer = _text(os.path.join(path, "INSTALLER")).strip()
    ours = installer == INSTALLER and os.path.isfile(os.path.join(path, RECEIPT))
    editable = '"editable": true' in _text(os.path.join(path, "direct_url.json")) or any(
        row.path.startswith("__editable__") for row in rows
    )
    return Installed(
        directory=os.path.dirname(path),
        package=package,
        dist_info=path,
        version=match.group(2) if match else "",
        rows=rows,
        owner=OURS if ours else installer or UNKNOWN,
        editable=editable,
    )


def _is_developed(distribution: str, path: Sequence[str]) -> bool:
    """`setup.py develop` leaves a link in place of metadata; the checkout lies elsewhere."""
    return any(os.path.isfile(os.path.join(one, f"{distribution}.egg-link")) for one in path)


def _judged(found: Installed, *, target: str, path: Sequence[str]) -> Installed:
    """Add whether it may be replaced: whole by its RECORD, in the target, and not a link."""
    link = os.path.islink(os.path.join(found.directory, found.package))
    here = os.path.realpath(found.directory) == os.path.realpath(target)
    # Behind the target it is not even touched: ours, in front of it, is what import finds.
    behind = target in path and list(path).index(target) < list(path).index(found.directory)
    whole = found.has_record and not found.editable and found.owner in REPLACEABLE and not link
    return replace(found, replaceable=(behind and not found.editable) or (here and whole))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
