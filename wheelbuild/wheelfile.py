"""A wheel as a folder on disk, and back: the same files always give the same bytes.

Formats: PyPA specifications "Binary distribution format" and "Recording installed projects".
"""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import io
import os
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wheelbuild.errors import WheelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

_NAME = re.compile(
    r"(?P<distribution>[^-]+)-(?P<version>[^-]+)(-(?P<build>\d[^-]*))?"
    r"-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)(-(?P<variant>[0-9a-z_.]+))?\.whl"
)
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip can say; no build's clock gets into the bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelName:
    """The parts of a wheel's file name; `text` is the inverse of `parse`."""

    distribution: str
    version: str
    build_tag: int
    """0 means none."""
    python: str
    abi: str
    platform: str
    """One tag or several joined by dots."""
    variant: str = ""
    """Label of a variant (PEP 825); empty for a plain wheel."""

    @classmethod
    def parse(cls, name: str) -> WheelName:
        match = _NAME.fullmatch(name)
        if not match or not (match["build"] or "0").isdigit():
            raise WheelError(f"{name}: not the file name of a wheel (PEP 427)")
        return cls(
            distribution=match["distribution"],
            version=match["version"],
            build_tag=int(match["build"] or 0),
            python=match["python"],
            abi=match["abi"],
            platform=match["platform"],
            variant=match["variant"] or "",
        )

    @property
    def text(self) -> str:
        build = f"-{self.build_tag}" if self.build_tag else ""
        tags = f"{self.python}-{self.abi}-{self.platform}"
        label = f"-{self.variant}" if self.variant else ""
        return f"{self.distribution}-{self.version}{build}-{tags}{label}.whl"


def unpack_wheel(wheel: Path, *, into: Path) -> None:
    """Write all files below the empty folder `into`; WheelError for a name that leads outside."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for item in archive.infolist():
                if not item.is_dir():
                    path = into / _inside(item.filename, wheel)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(item) as source, path.open("xb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, FileExistsError) as error:
        raise WheelError(f"{wheel}: not a sound wheel: {error}") from error


def _inside(name: str, wheel: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise WheelError(f"{wheel}: holds {name!r}, which leads outside the wheel")
    return path


def find_dist_info(folder: Path) -> Path:
    """The one `*.dist-info` of an unpacked wheel."""
    found = sorted(folder.glob("*.dist-info"))
    if len(found) != 1:
        raise WheelError(f"{folder}: {len(found)} .dist-info folders, a wheel has one")
    return found[0]


def find_modules(folder: Path) -> dict[str, Path]:
    """Import name (`amp_C`, `package.amp_C`) -> file of every extension module in a folder."""
    found = {}
    for path in sorted(folder.rglob("*.so")):
        relative = path.relative_to(folder)
        found[".".join((*relative.parent.parts, path.name.partition(".")[0]))] = path
    return found


def read_member(wheel: Path, name: str) -> bytes:
    """One file of the dist-info, by its name there (`METADATA`); WheelError if it is missing."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if re.fullmatch(rf"[^/]+\.dist-info/{re.escape(name)}", member):
                    return archive.read(member)
    except (zipfile.BadZipFile, OSError) as error:
        raise WheelError(f"{wheel}: cannot be read as a wheel: {error}") from error
    raise WheelError(f"{wheel}: has no {name} in its .dist-info")


def parse_headers(text: str) -> Message:
    """Read METADATA or WHEEL (RFC 822 headers, and a body that is the description)."""
    return email.message_from_string(text)


def pack_wheel(folder: Path, *, path: Path) -> Path:
    """Write RECORD anew and then the wheel: sorted, no directory members, one date, `path` last.

    Level 9: a wheel is packed once and fetched often.
    """
    dist_info = find_dist_info(folder)
    _write_record(folder, dist_info)
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in _ordered(folder, dist_info):
            item = zipfile.ZipInfo(name, date_time=_EPOCH)
            item.create_system = 3
            item.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            item.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(item, (folder / name).read_bytes())
    part.replace(path)
    return path


def _ordered(folder: Path, dist_info: Path) -> list[str]:
    """The dist-info last and RECORD at the very end, as the specification recommends."""
    record = f"{dist_info.name}/RECORD"

    def place(name: str) -> tuple[bool, bool, str]:
        return name == record, name.startswith(f"{dist_info.name}/"), name

    return sorted(_files(folder), key=place)


def _files(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield (Path(parent) / name).relative_to(folder).as_posix()


def _write_record(folder: Path, dist_info: Path) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    record = f"{dist_info.name}/RECORD"
    for name in _ordered(folder, dist_info):
        if name == record:
            continue
        content = (folder / name).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow((name, f"sha256={digest}", len(content)))
    rows.writerow((record, "", ""))
    (folder / record).write_text(text.getvalue(), encoding="utf-8")
