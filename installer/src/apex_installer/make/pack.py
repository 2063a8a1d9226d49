"""Modules and the pure Python tree become a wheel; the same input gives the same bytes.

The format: packaging.python.org "Binary distribution format" (PEP 427), METADATA 2.4 (PEP 639).
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import os
import re
import time
import zipfile
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

from apex_installer import __version__
from apex_installer.errors import CompileError
from apex_installer.make.capture import Capture
from apex_installer.make.request import BuildRequest

_LICENSES = ("LICEN[CS]E*", "COPYING*", "NOTICE*", "AUTHORS*")
"""What setuptools takes for licence files where nothing is said."""
_FIRST_DAY = 315532800
"""1980-01-01: a zip archive can name no earlier day."""
_NOT_PACKED = {"__pycache__"}
_NOT_AT_TOP = {"tests", "test"}
"""Upstream's `find_packages` takes its test packages along; they would land in site-packages."""


@dataclass(frozen=True)
class Tag:
    """PEP 425: `cp311-cp311-linux_x86_64`."""

    python: str
    abi: str
    platform: str

    @property
    def text(self) -> str:
        return f"{self.python}-{self.abi}-{self.platform}"


def wheel_tag(*, interpreter_tag: str, platform: str, has_modules: bool) -> Tag:
    """Of a wheel with modules: this Python's own (`cp313-cp313t` where it has no GIL)."""
    if not has_modules:
        return Tag("py3", "none", "any")
    return Tag(interpreter_tag.rstrip("t"), interpreter_tag, platform)


def wheel_name(*, distribution: str, version: str, build_tag: int, tag: Tag) -> str:
    """`apex-0.1+20260708.cu130.torch2.11-2-cp311-cp311-linux_x86_64.whl`."""
    build = f"-{build_tag}" if build_tag else ""
    return f"{_escape(distribution)}-{version}{build}-{tag.text}.whl"


def _escape(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name)


def metadata_text(
    *,
    distribution: str,
    version: str,
    summary: str,
    requires: Sequence[str],
    requires_python: str,
    license_files: Sequence[str],
) -> str:
    """METADATA; every value on one line."""
    lines = ["Metadata-Version: 2.4", f"Name: {distribution}", f"Version: {version}"]
    if summary:
        lines.append(f"Summary: {' '.join(summary.split())}")
    lines += [f"License-File: {name}" for name in sorted(license_files)]
    if requires_python:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {one}" for one in requires]
    return "\n".join(lines) + "\n"


def wheel_text(*, tag: Tag, build_tag: int, has_modules: bool) -> str:
    """WHEEL."""
    lines = [
        "Wheel-Version: 1.0",
        f"Generator: apex-installer {__version__}",
        f"Root-Is-Purelib: {'false' if has_modules else 'true'}",
        f"Tag: {tag.text}",
    ]
    if build_tag:
        lines.append(f"Build: {build_tag}")
    return "\n".join(lines) + "\n"


def list_python_tree(folder: str) -> Dict[str, str]:
    """Files of the pure Python part: path in the wheel -> path on disk."""
    found: Dict[str, str] = {}
    for parent, folders, files in os.walk(folder):
        relative = os.path.relpath(parent, folder)
        refused = _NOT_PACKED | (_NOT_AT_TOP if relative == "." else set())
        folders[:] = sorted(name for name in folders if name not in refused)
        for file in files:
            path = os.path.normpath(os.path.join(relative, file)).replace(os.sep, "/")
            found[path] = os.path.join(parent, file)
    return found


def list_licenses(source: str) -> Dict[str, str]:
    """Licence files at the top of the source: name -> path."""
    names = [
        name
        for name in sorted(os.listdir(source))
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in _LICENSES)
    ]
    paths = {name: os.path.join(source, name) for name in names}
    return {name: path for name, path in paths.items() if os.path.isfile(path)}


def module_file(module: str, *, suffix: str) -> str:
    """`pkg.amp_C` -> `pkg/amp_C.cpython-311-x86_64-linux-gnu.so`."""
    return module.replace(".", "/") + suffix


@dataclass(frozen=True)
class WheelParts:
    """All that goes into a wheel."""

    distribution: str
    version: str
    build_tag: int
    tag: Tag
    files: Mapping[str, str]
    """Path in the wheel -> path on disk."""
    licenses: Mapping[str, str]
    """Name -> path on disk."""
    metadata: str


def pack_wheel(
    request: BuildRequest, *, capture: Capture, modules: Mapping[str, str], out: str
) -> str:
    """Make the wheel of a build in the folder `out`; its path. `modules`: name -> linked file."""
    suffix = str(capture.facts["extension_suffix"])
    tree = list_python_tree(capture.python_tree)
    files = join_files(tree, {module_file(m, suffix=suffix): p for m, p in modules.items()})
    check_package(files, request.package)
    licenses = list_licenses(request.source)
    parts = WheelParts(
        distribution=request.distribution,
        version=request.version,
        build_tag=request.build_tag,
        tag=wheel_tag(
            interpreter_tag=str(capture.facts["tag"]),
            platform=str(capture.facts["platform"]),
            has_modules=bool(modules),
        ),
        files=files,
        licenses=licenses,
        metadata=metadata_text(
            distribution=request.distribution,
            version=request.version,
            summary=str(capture.setup.get("description") or ""),
            requires=request.requires,
            requires_python=request.requires_python or str(capture.setup["python_requires"]),
            license_files=tuple(licenses),
        ),
    )
    date = os.environ.get("SOURCE_DATE_EPOCH")
    return write_wheel(
        parts,
        out=out,
        # A farm's wheel is repaired and packed again; a pod's is used at once.
        compression=6 if request.strip else 1,
        date=int(date) if date else _FIRST_DAY,
    )


def write_wheel(parts: WheelParts, *, out: str, compression: int, date: int) -> str:
    """Write the wheel into the folder `out`; its path. `date` is SOURCE_DATE_EPOCH."""
    members = list_members(parts)
    path = os.path.join(
        out,
        wheel_name(
            distribution=parts.distribution,
            version=parts.version,
            build_tag=parts.build_tag,
            tag=parts.tag,
        ),
    )
    os.makedirs(out, exist_ok=True)
    _write_zip(f"{path}.part", members, compression=compression, date=date)
    os.replace(f"{path}.part", path)
    return path


def list_members(parts: WheelParts) -> List[Tuple[str, bytes]]:
    """Path and bytes of every member, in the archive's order: sorted, the dist-info last."""
    info = f"{_escape(parts.distribution)}-{parts.version}.dist-info"
    has_modules = parts.tag.abi != "none"
    wheel = wheel_text(tag=parts.tag, build_tag=parts.build_tag, has_modules=has_modules)
    members = [(path, _read(disk)) for path, disk in sorted(parts.files.items())]
    members += [
        (f"{info}/licenses/{file}", _read(disk)) for file, disk in sorted(parts.licenses.items())
    ]
    members += [
        (f"{info}/METADATA", parts.metadata.encode()),
        (f"{info}/WHEEL", wheel.encode()),
        (f"{info}/top_level.txt", _top_level(parts.files).encode()),
    ]
    record = f"{info}/RECORD"
    return [*members, (record, record_text(members, record=record).encode())]


def record_text(members: Sequence[Tuple[str, bytes]], *, record: str) -> str:
    """RECORD: path, sha256, size of every member, and itself without either."""
    lines = []
    for path, data in members:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        quoted = f'"{path}"' if "," in path else path
        lines.append(f"{quoted},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{record},,"]) + "\n"


def check_package(files: Mapping[str, str], package: str) -> None:
    """CompileError where the import package is not among the files."""
    if not any(path.startswith((f"{package}/", f"{package}.py")) for path in files):
        raise CompileError(f"setup.py's packages do not hold {package!r}: wrong source?")


def join_files(tree: Mapping[str, str], modules: Mapping[str, str]) -> Dict[str, str]:
    """Both; CompileError where a module would hide a file of the tree."""
    both = sorted(set(tree) & set(modules))
    if both:
        raise CompileError(f"setup.py packs {', '.join(both)} as a file and builds it as a module")
    return {**tree, **modules}


def _top_level(files: Mapping[str, str]) -> str:
    names = {path.split("/")[0].split(".")[0] for path in files}
    return "".join(f"{name}\n" for name in sorted(names))


def _write_zip(
    path: str, members: Sequence[Tuple[str, bytes]], *, compression: int, date: int
) -> None:
    when = time.gmtime(max(date, _FIRST_DAY))[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=compression) as archive:
        for name, data in members:
            item = zipfile.ZipInfo(name, date_time=when)
            item.compress_type = zipfile.ZIP_DEFLATED
            item.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            item.create_system = 3
            archive.writestr(item, data)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
