"""Stamp: what a wheel says of itself (METADATA, build record, name), and the entry made of that."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apex_installer.model.entry import Entry
from apex_installer.read.modules import read_module, symbols_digest, version_floors
from wheelbuild.errors import StampError
from wheelbuild.record import FILE, BuildRecord
from wheelbuild.variants import FILE as VARIANT_FILE
from wheelbuild.variants import describe
from wheelbuild.wheelfile import (
    WheelName,
    find_dist_info,
    find_modules,
    pack_wheel,
    parse_headers,
    read_member,
    unpack_wheel,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apex_installer.make.request import BuildRequest

UNTESTED: Mapping[str, Any] = {"gpu": "untested"}
"""The evidence of a wheel that was compiled but never run on a GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """What stamping changes in METADATA, WHEEL and the file name."""

    version: str
    build_tag: int
    requires: tuple[str, ...]
    """Requires-Dist, torch's pin included; they replace what setup() said."""
    requires_python: str

    @classmethod
    def of(cls, request: BuildRequest) -> Stamp:
        """StampError for a request whose requirements do not pin torch to the cell's minor."""
        release = ".".join(request.torch.split(".")[:2])
        pin = f"torch=={release}.*"
        if pin not in request.requires:
            raise StampError(f"{request.version}: requires {list(request.requires)} without {pin}")
        return cls(
            version=request.version,
            build_tag=request.build_tag,
            requires=request.requires,
            requires_python=request.requires_python,
        )


def stamp_wheel(wheel: Path, *, request: BuildRequest, out: Path) -> Path:
    """Write the stamped wheel into the folder `out` and return its path; repeatable."""
    stamp = Stamp.of(request)
    name = WheelName.parse(wheel.name)
    with tempfile.TemporaryDirectory(prefix="wheelbuild-stamp-") as scratch:
        folder = Path(scratch) / "wheel"
        unpack_wheel(wheel, into=folder)
        dist_info = _rename_dist_info(folder, f"{name.distribution}-{stamp.version}.dist-info")
        record = read_record_of(folder, request=request)
        (dist_info / FILE).write_text(record.to_json(), encoding="utf-8")
        if request.variant:
            (dist_info / VARIANT_FILE).write_bytes(describe([request.variant]))
        for file, change in (("METADATA", stamp_metadata), ("WHEEL", stamp_tags)):
            text = (dist_info / file).read_text(encoding="utf-8")
            (dist_info / file).write_text(change(text, stamp=stamp), encoding="utf-8")
        stamped = WheelName(
            distribution=name.distribution,
            version=stamp.version,
            build_tag=stamp.build_tag,
            python=name.python,
            abi=name.abi,
            platform=name.platform,
            variant=request.variant,
        )
        return pack_wheel(folder, path=out / stamped.text)


def _rename_dist_info(folder: Path, name: str) -> Path:
    found = find_dist_info(folder)
    return found if found.name == name else found.rename(folder / name)


def stamp_metadata(text: str, *, stamp: Stamp) -> str:
    """Version and requirements in METADATA; every other header and the description stay."""
    added = [f"Version: {stamp.version}"]
    added += [f"Requires-Python: {stamp.requires_python}"] if stamp.requires_python else []
    added += [f"Requires-Dist: {requirement}" for requirement in stamp.requires]
    replaced = ["Version", "Requires-Dist", "Provides-Extra"]
    replaced += ["Requires-Python"] if stamp.requires_python else []
    return _replace_headers(text, replaced, added, after="Name")


def stamp_tags(text: str, *, stamp: Stamp) -> str:
    """The `Build:` tag in WHEEL, which must be the file name's."""
    added = [f"Build: {stamp.build_tag}"] if stamp.build_tag else []
    return _replace_headers(text, ["Build"], added, after="Root-Is-Purelib")


def _replace_headers(text: str, dropped: Sequence[str], added: list[str], *, after: str) -> str:
    """Line by line, since a round through `email` would refold what it need not touch."""
    head, blank, body = text.replace("\r\n", "\n").partition("\n\n")
    fields = re.findall(r"^[^\s:]+:.*(?:\n[ \t].*)*", head, flags=re.MULTILINE)
    kept = [field for field in fields if field.partition(":")[0] not in dropped]
    names = [field.partition(":")[0] for field in kept]
    place = names.index(after) + 1 if after in names else len(kept)
    return "\n".join(kept[:place] + added + kept[place:]) + (blank + body if body else "\n")


def read_record_of(folder: Path, *, request: BuildRequest) -> BuildRecord:
    """Read the modules of an unpacked wheel, and join that with the request's own facts."""
    paths = find_modules(folder)
    facts = request.record
    try:
        return BuildRecord(
            cell=request.cell,
            suffix=facts["suffix"],
            recipe_digest=facts["recipe_digest"],
            ref=facts["ref"],
            source=facts["source"],
            torch=request.torch,
            torch_git=facts["torch_git"],
            cxx11_abi=facts["cxx11_abi"],
            cuda=facts["cuda"],
            nvcc=facts["nvcc"],
            gcc=facts["gcc"],
            python=facts["python"],
            compiler_cache=facts.get("compiler_cache", ""),
            architectures=request.architectures,
            asked=tuple(sorted(request.modules)),
            argv=request.argv,
            environment=dict(request.environment),
            modules=tuple(
                read_module(str(path), name=name, file=path.relative_to(folder).as_posix())
                for name, path in paths.items()
            ),
            floors=version_floors(_texts(paths)),
            symbols_digest=symbols_digest(_texts(paths)),
            variant=request.variant,
        )
    except KeyError as error:
        raise StampError(
            f"{request.cell}: the job says nothing of {error}: build it anew"
        ) from None


def _texts(paths: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items()}


def read_build_record(wheel: Path) -> BuildRecord:
    """The build record inside a stamped wheel; WheelError where there is none."""
    return BuildRecord.from_json(read_member(wheel, FILE).decode(), where=wheel.name)


def evidence_path(wheel: Path) -> Path:
    """Where the test step leaves its evidence: beside the wheel."""
    return wheel.with_name(f"{wheel.name}.tests.json")


def read_evidence(wheel: Path) -> Mapping[str, Any]:
    """The test step's evidence for exactly these bytes, else `{"gpu": "untested"}`."""
    path = evidence_path(wheel)
    if not path.is_file():
        return UNTESTED
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data["tests"] if data.get("sha256") == _sha256(wheel.read_bytes()) else UNTESTED


def write_evidence(wheel: Path, tests: Mapping[str, Any]) -> None:
    """Leave it beside the wheel, bound to exactly these bytes."""
    data = {"sha256": _sha256(wheel.read_bytes()), "tests": tests}
    evidence_path(wheel).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def entry_of(wheel: Path) -> Entry:
    """The entry of a stamped wheel; `url` and `uploaded` are the index's to say and empty here."""
    record, metadata = read_build_record(wheel), read_member(wheel, "METADATA")
    headers, name = parse_headers(metadata.decode()), WheelName.parse(wheel.name)
    if headers["Version"] != name.version:
        raise StampError(f"{wheel.name}: METADATA says version {headers['Version']}: stamp it")
    if record.variant != name.variant:
        raise StampError(f"{wheel.name}: its build record says variant {record.variant!r}")
    content = wheel.read_bytes()
    return Entry(
        file=wheel.name,
        url="",
        size=len(content),
        sha256=_sha256(content),
        metadata_sha256=_sha256(metadata),
        uploaded="",
        cell=record.cell,
        torch=record.torch,
        torch_git=record.torch_git,
        cxx11_abi=record.cxx11_abi,
        key=record.key,
        distribution=name.distribution,
        version=name.version,
        build_tag=name.build_tag,
        suffix=record.suffix,
        ref=record.ref,
        modules=record.modules,
        floors=record.floors,
        symbols_digest=record.symbols_digest,
        requires=tuple(headers.get_all("Requires-Dist") or ()),
        tests=read_evidence(wheel),
        variant=name.variant,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
