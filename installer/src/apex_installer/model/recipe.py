"""What the thin part knows of the package it installs: read from `data/recipe.json`.

The farm generates that file from its recipe; nothing here names Apex. A zipapp packs the recipe
it is told to pack.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from apex_installer.errors import UsageError
from apex_installer.model.arch import parse_version
from apex_installer.values import dataclass


@dataclass(frozen=True)
class Requirement:
    """A package that is needed at run time but not installed by us."""

    name: str
    """Distribution name: `packaging`."""
    specifier: str
    """PEP 508 text for the pip line: `packaging>20.6`."""
    module: str
    """Import name looked for."""
    needed_for_import: bool
    """Whether `import <package>` itself fails without it (exit 3), or only a part (exit 0)."""


@dataclass(frozen=True)
class Recipe:
    """The recipe as the thin part needs it."""

    distribution: str
    """`apex`: the distribution's name."""
    package: str
    """`apex`: the import name of the pure Python package."""
    provides: Mapping[str, Tuple[str, ...]]
    """What people ask for -> the modules it needs: `apex.normalization.FusedRMSNorm` -> (…).

    In the recipe's order: the first name that ends in `FusedAdam` is what `FusedAdam` means."""
    groups: Mapping[str, Tuple[str, ...]]
    """Module groups: `norm`, `core`, …; `default` is the whole default set."""
    required_by_default: Tuple[str, ...]
    """Modules required when nothing is said."""
    requirements: Mapping[str, Tuple[Requirement, ...]]
    """Per ref (full commit hash), `*` for any other."""
    raw: Mapping[str, Any]
    """The whole document; what compiles reads `refs`, `modules`, `base_version` and `git_url`."""

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read `data/recipe.json`, which the farm wrote and a test holds against the TOML."""
        data: Dict[str, Any] = json.loads(text)
        return cls(
            distribution=data["distribution"],
            package=data["package"],
            provides={name: tuple(modules) for name, modules in data["provides"].items()},
            groups={name: tuple(modules) for name, modules in data["groups"].items()},
            required_by_default=tuple(data["required_by_default"]),
            requirements={
                ref: tuple(Requirement(**item) for item in items)
                for ref, items in data["requirements"].items()
            },
            raw=data,
        )

    def requirements_of(self, ref: str) -> Tuple[Requirement, ...]:
        """What the package of this commit needs at run time."""
        return self.requirements.get(ref.partition("+")[0], self.requirements.get("*", ()))

    def ref_for(self, torch: str) -> Optional[Mapping[str, Any]]:
        """The row of `raw` for this torch (`2.11.0+cu130`); the refs' ranges do not overlap."""
        parts = torch.split("+", maxsplit=1)[0].split(".")[:2]
        if not all(part.isdigit() for part in parts):
            return None
        minor = parse_version(".".join(parts))
        for ref in self.raw.get("refs", ()):
            newest = ref["torch_max"]
            if parse_version(ref["torch_min"]) <= minor and (
                newest is None or minor <= parse_version(newest)
            ):
                return dict(ref)
        return None

    def modules_for(self, wishes: Iterable[str], *, flag: str = "--require") -> Tuple[str, ...]:
        """Turn `--require` words into modules; UsageError lists every unknown one with near names.

        A word is a full name (`apex.normalization.FusedRMSNorm`), its last part (`FusedAdam`),
        a module, or a group (`default`, `norm`).
        """
        words = tuple(wishes)
        if not words:
            return self.required_by_default
        known = self._names()
        unknown = [word for word in words if word not in known]
        if unknown:
            raise UsageError("; ".join(f"{flag} {_unknown(word, known)}" for word in unknown))
        return tuple(sorted({module for word in words for module in known[word]}))

    def lacking_in_standins(self, wishes: Iterable[str]) -> Tuple[str, ...]:
        """Those `--require` words that need a part of a module which its stand-in does not hold.

        A module, or a group with it, asked for by its own name is asked for whole.
        """
        lacks = {
            module: facts["standin_lacks"]
            for module, facts in self.raw.get("modules", {}).items()
            if "standin_lacks" in facts
        }
        names = {name for lacked in lacks.values() for name in lacked}
        return tuple(word for word in wishes if self._means_one_of(word, names, lacks))

    def _means_one_of(self, word: str, names: Iterable[str], modules: Iterable[str]) -> bool:
        for name in self.provides:
            if word in (name, name.rpartition(".")[2]):
                return name in names
        return not set(self.groups.get(word, (word,))).isdisjoint(modules)

    def _names(self) -> Dict[str, Tuple[str, ...]]:
        known: Dict[str, Tuple[str, ...]] = {}
        for name, modules in self.provides.items():
            known[name] = modules
            known.setdefault(name.rpartition(".")[2], modules)
        known.update({module: (module,) for group in self.groups.values() for module in group})
        known.update(self.groups)
        return known


def _unknown(word: str, known: Mapping[str, Tuple[str, ...]]) -> str:
    import difflib  # noqa: PLC0415 - only a mistake pays for it

    near: List[str] = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else "; `default` stands for the whole default set"
    return f"{word}: unknown{hint}"
