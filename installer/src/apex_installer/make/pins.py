"""Where each CUDA's compiler comes from, pinned by sha256: `data/toolkits.json`, or a file like it.

Pure. Another file of the same form (`--toolkits FILE`) takes its place for mirrors and tests.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from apex_installer.errors import UsageError

SCHEMA = 1
ARCHIVES, WHEELS = "archives", "wheels"
"""How a toolkit comes: NVIDIA's redistributable archives, or NVIDIA's wheels on PyPI."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]*\.(tar\.(xz|gz)|whl)")


@dataclass(frozen=True)
class Part:
    """One archive or wheel, of which nothing is believed but its sha256."""

    name: str
    """Component (`cuda_nvcc`) or distribution (`nvidia-cuda-nvcc`)."""
    version: str
    file: str
    """Path below the base URL (archives), or the wheel's file name."""
    sha256: str
    size: int
    """Bytes."""
    holds: str = ""
    """A header (`cublas_v2.h`) whose presence elsewhere makes this part needless."""
    record_sha256: str = ""
    """Of the wheel's RECORD, by which single files are believed without the whole wheel."""
    module: str = ""
    """Import name, of a build requirement."""

    @property
    def base(self) -> str:
        """The file's own name."""
        return self.file.rpartition("/")[2]


@dataclass(frozen=True)
class Pinned:
    """One CUDA release."""

    cuda: str
    """`12.1`."""
    release: str
    """`12.1.1`."""
    how: str
    """`archives` or `wheels`."""
    base_url: str
    gcc_max: int
    """Newest major version of gcc that its headers accept."""
    parts: Tuple[Part, ...]
    headers: Tuple[Part, ...]
    """NVIDIA's wheels that hold the headers which torch's own wheels may not have brought."""

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Apt:
    """NVIDIA's repositories for apt, and the key that signs them."""

    base_url: str
    key: str
    """File below a repository's folder."""
    fingerprint: str
    """40 hex digits (RFC 4880, 12.2)."""
    repositories: Mapping[str, Tuple[str, ...]]
    """`debian12` -> the CUDA minors that it holds."""


@dataclass(frozen=True)
class Pins:
    """A whole pins file."""

    toolkits: Mapping[str, Pinned]
    """By CUDA minor."""
    build_requirements: Tuple[Part, ...]
    """What a torch extension's setup.py imports, as wheels of pure Python."""
    apt: Optional[Apt]
    raw: Mapping[str, Any]

    def get(self, cuda: str) -> Optional[Pinned]:
        """The toolkit of this CUDA minor, or None."""
        return self.toolkits.get(cuda)


def parse_pins(text: str, *, where: str) -> Pins:
    """Read a pins file; UsageError names all its faults at once. `where` is for people."""
    try:
        data: Any = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where}: not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise UsageError(f"{where}: not a pins file of schema {SCHEMA}")
    faults: List[str] = []
    toolkits = {
        str(cuda): _toolkit(str(cuda), one, faults)
        for cuda, one in _table(data, "toolkits", faults).items()
        if isinstance(one, dict)
    }
    requirements = _parts(data, "build_requirements", faults, at="build_requirements")
    if faults:
        raise UsageError(f"{where}: {'; '.join(faults)}")
    return Pins(toolkits, requirements, _apt(data.get("apt")), data)


def _toolkit(cuda: str, data: Dict[str, Any], faults: List[str]) -> Pinned:
    how, base = data.get("how"), data.get("base_url")
    if how not in (ARCHIVES, WHEELS):
        faults.append(f"{cuda}: how is {how!r}, not {ARCHIVES} or {WHEELS}")
    if not isinstance(base, str) or not base.endswith("/"):
        faults.append(f"{cuda}: base_url is {base!r}, not a URL that ends in /")
    parts = _parts(data, "parts", faults, at=cuda)
    if not parts:
        faults.append(f"{cuda}: has no parts")
    return Pinned(
        cuda=cuda,
        release=str(data.get("release", cuda)),
        how=str(how),
        base_url=str(base),
        gcc_max=int(data.get("gcc_max", 0)),
        parts=parts,
        headers=_parts(data, "headers", faults, at=cuda),
    )


def _parts(data: Mapping[str, Any], key: str, faults: List[str], *, at: str) -> Tuple[Part, ...]:
    found: List[Part] = []
    for item in data.get(key, ()):
        fault = _part_fault(item)
        if fault:
            name = item.get("name", "?") if isinstance(item, dict) else item
            faults.append(f"{at}: {name}: {fault}")
        else:
            found.append(
                Part(
                    name=str(item["name"]),
                    version=str(item["version"]),
                    file=item["file"],
                    sha256=item["sha256"],
                    size=item["size"],
                    holds=str(item.get("holds", "")),
                    record_sha256=str(item.get("record_sha256", "")),
                    module=str(item.get("module", "")),
                )
            )
    return tuple(found)


def _part_fault(item: Any) -> str:
    if not isinstance(item, dict):
        return "is no part"
    lacking = [key for key in ("name", "version", "file", "sha256", "size") if key not in item]
    if lacking:
        return f"lacks {', '.join(lacking)}"
    if not _SHA256.fullmatch(str(item["sha256"])):
        return "sha256 is not 64 hex digits"
    if not isinstance(item["size"], int) or item["size"] < 1:
        return "size is not a number of bytes"
    if not _FILE.fullmatch(str(item["file"])) or ".." in item["file"]:
        return f"file {item['file']!r} is not x.tar.xz, x.tar.gz or x.whl"
    return ""


def _table(data: Mapping[str, Any], key: str, faults: List[str]) -> Dict[str, Any]:
    found = data.get(key)
    if not isinstance(found, dict):
        faults.append(f"has no {key}")
        return {}
    return found


def _apt(data: Any) -> Optional[Apt]:
    if not isinstance(data, dict):
        return None
    return Apt(
        base_url=str(data["base_url"]),
        key=str(data["key"]),
        fingerprint=str(data["fingerprint"]),
        repositories={name: tuple(cudas) for name, cudas in data["repositories"].items()},
    )
