"""What an index lets in: a wheel that is what its name, its metadata and its entry say.

pip refuses a wheel whose METADATA disagrees with its name or its sidecar, and uv one whose hash
does; both after it was published, on other people's machines. So it is refused here.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name, canonicalize_version

from wheelbuild.errors import PublishError
from wheelbuild.variants import FILE, label_of, read_labels
from wheelbuild.wheelfile import WheelName, parse_headers, read_member

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from pathlib import Path

    from apex_installer.model.entry import Entry


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a wheel says of itself, at three places."""

    name: WheelName
    metadata: bytes
    headers: Message
    """METADATA, parsed."""
    wheel: Message
    """WHEEL, parsed."""


def check_wheel(path: Path, entry: Entry) -> bytes:
    """Return the METADATA bytes for the sidecar; PublishError lists every fault at once."""
    metadata = read_member(path, "METADATA")
    said = Said(
        name=WheelName.parse(path.name),
        metadata=metadata,
        headers=parse_headers(metadata.decode()),
        wheel=parse_headers(read_member(path, "WHEEL").decode()),
    )
    faults = [*_name_faults(said), *_version_faults(said, entry), *_entry_faults(path, said, entry)]
    faults += [
        *_pin_faults(said, entry),
        *_record_faults(path),
        *_variant_faults(path, said, entry),
    ]
    if faults:
        raise PublishError("\n".join(f"{path.name}: {fault}" for fault in faults))
    return metadata


def read_sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name_faults(said: Said) -> Iterator[str]:
    name, version = said.headers["Name"] or "", said.headers["Version"] or ""
    if canonicalize_name(name) != canonicalize_name(said.name.distribution):
        yield f"METADATA says Name: {name}"
    if canonicalize_version(version) != canonicalize_version(said.name.version):
        yield f"METADATA says Version: {version}"
    if (said.wheel["Build"] or "0") != str(said.name.build_tag):
        yield f"WHEEL says Build: {said.wheel['Build'] or 'none'}"
    tags = {tag for text in said.wheel.get_all("Tag") or () for tag in parse_tag(text)}
    if tags != parse_tag(f"{said.name.python}-{said.name.abi}-{said.name.platform}"):
        yield f"WHEEL says Tag: {' '.join(sorted(map(str, tags))) or 'none'}"


def _version_faults(said: Said, entry: Entry) -> Iterator[str]:
    """Exactly one local version, of the cell: what pins a requirement to this index."""
    cell = entry.the_cell
    if cell is None:
        local, form = r"\d+\.python", "<date>.python"
    else:
        ending = f".{entry.suffix}" if entry.suffix else ""
        form = f"<date>.{cell.cuda_tag}.torch{cell.torch_text}{ending}"
        local = r"\d+" + re.escape(form.removeprefix("<date>"))
    if not re.fullmatch(rf"[^+]+\+{local}", said.name.version):
        yield f"version {said.name.version} is not of the form <version>+{form}"
    if cell and said.name.python != cell.python:
        yield f"is for {said.name.python}, its cell is {entry.cell}"
    if cell and not said.name.platform.endswith(cell.platform.removeprefix("linux")):
        yield f"is for {said.name.platform}, its cell is {entry.cell}"


def _entry_faults(path: Path, said: Said, entry: Entry) -> Iterator[str]:
    """The entry was made from this file and from no other."""
    pairs = (
        ("file", entry.file, path.name),
        ("size", entry.size, path.stat().st_size),
        ("sha256", entry.sha256, read_sha256(path)),
        ("metadata_sha256", entry.metadata_sha256, hashlib.sha256(said.metadata).hexdigest()),
        (
            "distribution",
            canonicalize_name(entry.distribution),
            canonicalize_name(said.name.distribution),
        ),
        ("version", entry.version, said.name.version),
        ("build_tag", entry.build_tag, said.name.build_tag),
        ("variant", entry.variant, said.name.variant),
        ("requires", list(entry.requires), said.headers.get_all("Requires-Dist") or []),
    )
    for field, stated, found in pairs:
        if stated != found:
            yield f"its entry says {field} {stated!r}, the wheel {found!r}"


def _pin_faults(said: Said, entry: Entry) -> Iterator[str]:
    cell = entry.the_cell
    if cell is None:
        return
    pin = f"=={cell.torch_text}.*"
    try:
        requirements = [Requirement(text) for text in said.headers.get_all("Requires-Dist") or ()]
    except InvalidRequirement as error:
        yield f"METADATA holds a requirement that is none: {error}"
        return
    if not any(
        canonicalize_name(requirement.name) == "torch"
        and str(requirement.specifier) == pin
        and requirement.marker is None
        for requirement in requirements
    ):
        yield f"METADATA lacks Requires-Dist: torch{pin}"


def _variant_faults(path: Path, said: Said, entry: Entry) -> Iterator[str]:
    """The label in the name is the one that is described, and the only machine code that is held.

    uv takes a variant by its label alone, for a GPU that it says it is for.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(f".dist-info/{FILE}")]
        texts = [archive.read(name) for name in names]
    try:
        labels = [label for text in texts for label in read_labels(text)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        yield f"{FILE} cannot be believed: {error}"
        return
    if labels != ([said.name.variant] if said.name.variant else []):
        yield f"{FILE} describes {', '.join(labels) or 'nothing'}, the name says otherwise"
    for module in entry.modules if said.name.variant and entry.modules else ():
        held = [*map(label_of, module.machine_code), *(f"PTX of {one}" for one in module.ptx)]
        if module.has_device_code and held != [said.name.variant]:
            yield f"{module.name} holds {', '.join(held)}, not {said.name.variant} alone"


def _record_faults(path: Path) -> Iterator[str]:
    """RECORD both ways (PyPA, "Recording installed projects"): every file, its size and sha256."""
    with zipfile.ZipFile(path) as archive:
        names = [item.filename for item in archive.infolist() if not item.is_dir()]
        try:
            record = next(name for name in names if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
        except StopIteration:
            yield "has no RECORD"
            return
        rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
        stated = {row[0]: tuple(row[1:]) for row in rows if row}
        if len(set(names)) != len(names) or len(stated) != len([row for row in rows if row]):
            yield "holds or records a file twice"
        for name in sorted(set(names) ^ set(stated)):
            yield f"RECORD {'lacks' if name in names else 'names a missing'} {name}"
        for name in sorted(set(names) & set(stated) - {record}):
            if stated[name] != _row(archive, name):
                yield f"RECORD disagrees with {name}"


def _row(archive: zipfile.ZipFile, name: str) -> tuple[str, str]:
    content = archive.read(name)
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest}", str(len(content))
