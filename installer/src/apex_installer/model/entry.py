"""An entry: what the index says of one wheel. JSON in, value out, and back."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from apex_installer.errors import TrustError, UsageError
from apex_installer.model.arch import Architectures, Version
from apex_installer.model.cell import Cell
from apex_installer.values import asdict, dataclass, field

SHA256_DIGITS = 64
SCHEMA = 1
"""Of an entry's file and of the installer's document; a higher one is refused in one line."""


@dataclass(frozen=True)
class Module:
    """One extension module inside a wheel, as read from its file."""

    name: str
    """Import name: `fused_layer_norm_cuda`."""
    file: str
    """Path in the wheel."""
    machine_code: Tuple[str, ...]
    """Architectures that it was compiled for: `8.0`; empty where there is no device code."""
    ptx: Tuple[str, ...]
    """Architectures whose PTX it holds, which a newer GPU's driver compiles."""
    needed: Tuple[str, ...]
    """Needed sonames (DT_NEEDED), in the file's order."""

    @property
    def architectures(self) -> Architectures:
        """Empty for a module without device code, which every GPU runs."""
        return Architectures(self.machine_code, self.ptx)

    @property
    def has_device_code(self) -> bool:
        """Whether a GPU has a say at all."""
        return bool(self.machine_code or self.ptx)


@dataclass(frozen=True)
class Entry:
    """One published wheel."""

    file: str
    """File name of the wheel."""
    url: str
    """Relative to the document that lists it, or absolute."""
    size: int
    """Bytes."""
    sha256: str
    """Of the wheel."""
    metadata_sha256: str
    """Of the METADATA sidecar, `<url>.metadata` (PEP 658/714)."""
    uploaded: str
    """UTC, `2026-11-24T04:00:00Z` (PEP 700)."""
    cell: str
    """Text form of the cell; `python` for the Python-only wheel."""
    torch: str
    """The exact version built against: `2.4.0+cu121`."""
    torch_git: str
    """The git hash that this torch states."""
    cxx11_abi: bool
    """Which of the two C++ ABIs of libstdc++ this torch was built with."""
    key: str
    """Names the build; compared only with another build's key."""
    distribution: str
    """Name on the index: `apex`."""
    version: str
    """As in METADATA: `0.1+20250411.cu121.torch2.4`, with the suffix."""
    build_tag: int
    """PEP 427 build tag; 0 means none."""
    suffix: str
    """`norm.sm90` for less than the default set or the cell's architectures, else empty."""
    ref: str
    """The recipe's source commit, full hash."""
    modules: Tuple[Module, ...]
    """See below."""
    floors: Mapping[str, str]
    """Highest symbol version needed: `{"GLIBC": "2.28", "GLIBCXX": "3.4.24", "CXXABI": …}`."""
    symbols_digest: str
    """sha256 over the sorted lines `module symbol`, one per strong undefined symbol."""
    requires: Tuple[str, ...]
    """Requires-Dist, as in METADATA."""
    tests: Mapping[str, Any] = field(default_factory=dict)
    """Evidence: `gpu` (its name; `untested` where the wheel was compiled but not run on one),
    `driver`, `torch`, `passed`, `seconds`, and in `modules` the counts of each; `source` is
    `self-reported` where not the farm ran it but somebody's pod."""
    yanked: Optional[str] = None
    """Why it is yanked (PEP 592); null where it is not."""
    variant: str = ""
    """Label of a wheel for one architecture alone (PEP 825): `sm90`; empty for the plain wheel."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, where: str) -> Entry:
        """Read one entry; TrustError names `where` and what is missing or of another type.

        Keys that are not known are ignored: a newer index may say more.
        """
        try:
            known = {name: data[name] for name in cls.__annotations__ if name in data}
            _check_types(known)
            return cls(
                **{
                    **known,
                    "modules": tuple(_module(m) for m in known["modules"]),
                    "requires": tuple(known["requires"]),
                }
            )
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise TrustError(f"{where}: not a valid entry: {error!r}: {str(data)[:80]}") from error

    def to_json(self) -> Dict[str, Any]:
        """Plain values only; `from_json` reads it back to an equal entry."""
        return asdict(self)

    @property
    def the_cell(self) -> Optional[Cell]:
        """None for a Python-only wheel."""
        return None if self.cell == "python" else Cell.parse(self.cell)

    @property
    def made_by(self) -> Version:
        """CUDA release of the toolkit that made machine code and PTX."""
        cell = self.the_cell
        return cell.cuda if cell else (0, 0)

    @property
    def module_names(self) -> Tuple[str, ...]:
        """Import names, sorted."""
        return tuple(sorted(module.name for module in self.modules))

    @property
    def base_file(self) -> str:
        """The file name without the variant's label, as PEP 427 has it."""
        if not self.variant:
            return self.file
        return f"{self.file[: -len(f'-{self.variant}.whl')]}.whl"


def _module(data: Mapping[str, Any]) -> Module:
    return Module(
        name=data["name"],
        file=data["file"],
        machine_code=tuple(data["machine_code"]),
        ptx=tuple(data["ptx"]),
        needed=tuple(data["needed"]),
    )


def _check_types(data: Mapping[str, Any]) -> None:
    for name in ("file", "url", "sha256", "metadata_sha256", "cell", "version", "key", "torch"):
        if not isinstance(data[name], str):
            raise TypeError(f"{name} is not a string")
    if not isinstance(data["size"], int) or data["size"] < 0:
        raise TypeError("size is not a number of bytes")
    if len(data["sha256"]) != SHA256_DIGITS:
        raise ValueError(f"sha256 is not {SHA256_DIGITS} hex digits")
    variant = data.get("variant", "")
    label = f"-{variant}" if variant else ""
    if "/" in data["file"] or not data["file"].endswith(f"{label}.whl"):
        raise ValueError("file is not the name of a wheel, or not of its variant")
    if data["cell"] != "python":
        Cell.parse(data["cell"])


@dataclass(frozen=True)
class Document:
    """The installer's document: all entries of one index path and Python, suffixes included."""

    index_path: str
    """`cu121/torch2.4`."""
    python: str
    """Interpreter tag: `cp310`."""
    entries: Tuple[Entry, ...]
    """Each with the keys above. Variants have a list of their own in the file, `variants`: a reader
    that knows nothing of them does not see it, and cannot take one where it must not."""
    schema: int = SCHEMA
    """Raised when old readers would misread it."""
    min_installer: str = "0.1.0"
    """The oldest apex-install that reads it rightly; an older one says so in one line."""

    @classmethod
    def name_for(cls, python: str) -> str:
        """Explicit file name below the index path: `install-cp310.json`."""
        return f"install-{python}.json"

    @classmethod
    def from_json(cls, data: Any, *, where: str, installer: str) -> Document:
        """Read it; TrustError in one line for an unknown schema or a newer `min_installer`."""
        if not isinstance(data, Mapping) or not isinstance(data.get("schema"), int):
            raise TrustError(f"{where}: not an installer's document (no integer `schema`)")
        minimum = data.get("min_installer", "0")
        if data["schema"] > SCHEMA or parse_dotted(minimum) > parse_dotted(installer):
            raise TrustError(
                f"{where}: schema {data['schema']} needs apex-install {minimum} or newer, "
                f"this is {installer}: fetch a newer apex-install.pyz"
            )
        try:
            listed: List[Any] = [*data["entries"], *data.get("variants", ())]
            entries = tuple(Entry.from_json(entry, where=where) for entry in listed)
            return cls(str(data["index_path"]), str(data["python"]), entries)
        except (KeyError, TypeError) as error:
            raise TrustError(f"{where}: not an installer's document: {error}") from error

    def to_json(self) -> Dict[str, Any]:
        """Plain values only."""
        variants = [entry.to_json() for entry in self.entries if entry.variant]
        return {
            "schema": self.schema,
            "min_installer": self.min_installer,
            "index_path": self.index_path,
            "python": self.python,
            "entries": [entry.to_json() for entry in self.entries if not entry.variant],
            **({"variants": variants} if variants else {}),
        }


def parse_dotted(text: str) -> Tuple[int, ...]:
    """`0.1.0` -> (0, 1, 0), for comparing releases; what is no number counts as 0."""
    return tuple(int(part) if part.isdigit() else 0 for part in str(text).split("."))
