"""Variants: extra wheels of a cell, each for one architecture, as PEP 825 and uv's preview read it.

A label is `sm90`. It stands in the wheel's file name, in `variant.json` of its dist-info and, with
all others of that version, in `<name>-<version>-variants.json` on the index page. Pure.

What it asks of a machine is `nvidia :: sm_arch :: 90_real`, machine code that runs on every GPU of
the same major and a minor as high or higher. Never `90_virtual`: a variant holds no PTX, so that a
GPU that nothing was compiled for is given the plain wheel.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apex_installer.model.arch import Architectures
    from apex_installer.model.entry import Entry

FILE = "variant.json"
"""Its name in the dist-info."""
SCHEMA = "https://variants-schema.wheelnext.dev/peps/850/v0.2.0.json"
"""Of the draft that adds `providers` to PEP 825's keys; uv 0.13.9 knows both."""
NAMESPACE, FEATURE = "nvidia", "sm_arch"
PROVIDER = {
    "requires": ["nvidia-variant-provider>=0.0.1,<1"],
    "plugin-api": "nvidia_variant_provider.plugin:NvidiaVariantPlugin",
}
"""By these words uv knows its own provider; it runs nothing and fetches nothing for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexFile:
    """`apex-0.1+….cu130.torch2.11-variants.json`: all labels of one version."""

    name: str
    content: bytes
    uploaded: str
    """When the newest of them was published."""

    @property
    def sha256(self) -> str:
        """It changes when a label comes or goes; by its hash a client knows that it did."""
        return hashlib.sha256(self.content).hexdigest()


def label_of(arch: str) -> str:
    """`9.0` -> `sm90`."""
    return f"sm{arch.replace('.', '')}"


def choose_architectures(architectures: Architectures) -> tuple[str, ...]:
    """Those that get a variant: of several, all that the provider has a name for, not `9.0a`."""
    codes = architectures.machine_code
    named = tuple(arch for arch in codes if arch[-1].isdigit())
    return named if len(codes) > 1 else ()


def describe(labels: Iterable[str]) -> bytes:
    """The JSON of one wheel (one label), or of an index page (all labels of a version)."""
    data = {
        "$schema": SCHEMA,
        "default-priorities": {"namespace": [NAMESPACE]},
        "providers": {NAMESPACE: PROVIDER},
        "variants": {label: {NAMESPACE: {FEATURE: [_value(label)]}} for label in sorted(labels)},
    }
    return (json.dumps(data, indent=1) + "\n").encode()


def read_labels(text: bytes) -> tuple[str, ...]:
    """The labels that such a JSON describes, as we describe them; ValueError for any other."""
    data = json.loads(text)
    labels = tuple(sorted(data["variants"])) if isinstance(data, dict) else ()
    if data != json.loads(describe(labels)):
        raise ValueError("is not what its labels mean")
    return labels


def _value(label: str) -> str:
    return f"{label.removeprefix('sm')}_real"


def choose_offered(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """All plain wheels, and the variants of the newest build of each where neither is yanked.

    uv takes a variant of an older build before the plain wheel of a newer one, and a yanked one
    where its version is pinned: so neither is shown to anybody.
    """
    known = tuple(entries)
    newest: dict[tuple[str, str], Entry] = {}
    for entry in known:
        place = (entry.cell, entry.version)
        if not entry.variant and entry.build_tag >= _tag(newest.get(place)):
            newest[place] = entry
    return tuple(
        entry
        for entry in known
        if not entry.variant or _is_offered(entry, newest.get((entry.cell, entry.version)))
    )


def _is_offered(variant: Entry, plain: Entry | None) -> bool:
    return (
        plain is not None
        and variant.build_tag == plain.build_tag
        and variant.yanked is None
        and plain.yanked is None
    )


def _tag(entry: Entry | None) -> int:
    return entry.build_tag if entry else -1


def index_files(name: str, entries: Iterable[Entry]) -> tuple[IndexFile, ...]:
    """One file per version that has variants among the entries of a project."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.variant:
            found.setdefault(entry.version, []).append(entry)
    return tuple(
        IndexFile(
            name=f"{name.replace('-', '_')}-{version}-variants.json",
            content=describe({entry.variant for entry in listed}),
            uploaded=max(entry.uploaded for entry in listed),
        )
        for version, listed in sorted(found.items())
    )


def find_lacking(
    architectures: Iterable[str], plain: Entry, entries: Iterable[Entry]
) -> tuple[str, ...]:
    """Labels of the variants that are wanted, and that the index does not hold beside `plain`."""
    held = {
        entry.variant
        for entry in entries
        if (entry.cell, entry.version, entry.build_tag)
        == (plain.cell, plain.version, plain.build_tag)
    }
    return tuple(label for label in map(label_of, architectures) if label not in held)


def find_mismatch(variant: Entry, plain: Entry | None) -> str | None:
    """Say why `variant` may not be published beside the newest plain wheel of its cell; or None."""
    if plain is None or plain.build_tag != variant.build_tag:
        tag = plain.build_tag or "none" if plain else "no plain wheel at all"
        return (
            f"a variant lies beside the plain wheel of its own build: its build tag is "
            f"{variant.build_tag or 'none'}, the index's newest plain wheel has {tag}"
        )
    fields = ("ref", "torch", "torch_git", "cxx11_abi", "module_names", "requires")
    other = [name for name in fields if getattr(variant, name) != getattr(plain, name)]
    return f"is not of {plain.file}'s build: {', '.join(other)} differ" if other else None
