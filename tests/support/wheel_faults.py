"""One fault each for the wheels of `support.wheels`: name -> how the archive goes wrong."""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.wheels import Contents

Change = Callable[["Contents"], object]
"""Alters the members before they are written."""
Damage = Callable[[bytes], bytes]
"""Alters the written bytes."""

VERSION = "0.1+20260708.cu130.torch2.11"
MODULE_FILE = "fused_layer_norm_cuda.cpython-311-x86_64-linux-gnu.so"


def _add(name: str, data: bytes = b"x = 1\n", mode: int = stat.S_IFREG | 0o644) -> Change:
    return lambda contents: contents.add(name, data, mode)


def _drop(ending: str) -> Change:
    return lambda contents: contents.members.remove(contents.member(ending))


def _replaced(ending: str, old: bytes, new: bytes) -> Change:
    def change(contents: Contents) -> None:
        member = contents.member(ending)
        assert old in member.data, f"{old!r} not in {ending}"
        member.data = member.data.replace(old, new)

    return change


def _rows(change: Callable[[list[str]], list[str]]) -> Change:
    return lambda contents: contents.freeze_record(change)


def _after_record(change: Callable[[Contents], None]) -> Change:
    def both(contents: Contents) -> None:
        contents.freeze_record(lambda rows: rows)
        change(contents)

    return both


def _changed_row(old: str, new: str) -> Change:
    return _rows(lambda rows: [row.replace(old, new, 1) for row in rows])


def _size_off_by_one(contents: Contents) -> None:
    def change(rows: list[str]) -> list[str]:
        name, digest, size = rows[0].rsplit(",", 2)
        return [f"{name},{digest},{int(size) + 1}", *rows[1:]]

    contents.freeze_record(change)


def _without_package(contents: Contents) -> None:
    contents.members = [m for m in contents.members if not m.name.startswith("apex/")]


def _directory_offset(data: bytes) -> int:
    return struct.unpack("<L", data[-6:-2])[0]


def _poke(marker: bytes, offset: int, value: bytes) -> Damage:
    """Overwrite bytes at `offset` behind the first header that starts with `marker`."""

    def change(data: bytes) -> bytes:
        start = 0 if marker == b"PK\x03\x04" else _directory_offset(data)
        assert data[start : start + 4] == marker
        return data[: start + offset] + value + data[start + offset + len(value) :]

    return change


def _end_poke(offset: int, value: bytes) -> Damage:
    def change(data: bytes) -> bytes:
        start = len(data) - 22 + offset
        return data[:start] + value + data[start + len(value) :]

    return change


def _flip_middle(data: bytes) -> bytes:
    """One bit of the first member's compressed bytes."""
    where = 30 + struct.unpack("<H", data[26:28])[0] + 20
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"

FAULTS: dict[str, tuple[Change | None, Damage | None]] = {
    # The entry lies about the file.
    "entry-wrong-hash": (None, None),
    "entry-wrong-size": (None, None),
    # Bytes that are not this archive.
    "not-a-zip": (None, lambda _: b"<!doctype html><title>Sign in</title>" * 20),
    "empty": (None, lambda _: b""),
    "truncated": (None, lambda data: data[: len(data) // 2]),
    "end-cut-off": (None, lambda data: data[:-1]),
    "prepended": (None, lambda data: b"#!/bin/sh\n" + data),
    "appended": (None, lambda data: data + b"more"),
    "comment": (None, lambda data: data[:-2] + b"\x04\x00more"),
    "bit-flip": (None, _flip_middle),
    "local-name-differs": (None, _poke(LOCAL, 30, b"Z")),
    "local-size-differs": (None, _poke(LOCAL, 22, b"\x01\x00\x00\x00")),
    "central-offset-past-end": (None, _poke(CENTRAL, 42, b"\xff\xff\xff\x7f")),
    "central-size-huge": (None, _poke(CENTRAL, 24, b"\xff\xff\xff\x7f")),
    "data-descriptor": (None, _poke(CENTRAL, 8, b"\x08\x00")),
    "encrypted": (None, _poke(CENTRAL, 8, b"\x01\x00")),
    "unknown-method": (None, _poke(CENTRAL, 10, b"\x0c\x00")),
    "entries-miscounted": (None, _end_poke(10, b"\x01\x00")),
    "directory-offset-wrong": (None, _end_poke(16, b"\x00\x00\x00\x00")),
    "several-disks": (None, _end_poke(4, b"\x01\x00")),
    # Names that lead elsewhere.
    "path-outside": (_add("../outside.py"), None),
    "path-inner-outside": (_add("apex/../../outside.py"), None),
    "path-dot": (_add("apex/./dot.py"), None),
    "path-double-slash": (_add("apex//two.py"), None),
    "path-absolute": (_add("/etc/absolute.py"), None),
    "path-backslash": (_add("apex\\..\\..\\back.py"), None),
    "path-nul": (_add("apex/nul\x00.py"), None),
    "path-control": (_add("apex/new\nline.py"), None),
    "directory-member": (_add("apex/folder/", b""), None),
    "duplicate": (_add("apex/__init__.py", b"other = 1\n"), None),
    "case-duplicate": (_add("apex/__INIT__.py"), None),
    "file-and-directory": (_add("apex/normalization", b"file\n"), None),
    "symlink": (_add("apex/link", b"/etc/passwd", stat.S_IFLNK | 0o777), None),
    "device": (_add("apex/device", b"", stat.S_IFCHR | 0o666), None),
    # Files that have no business in it.
    "foreign-top-level": (_add("torch/__init__.py"), None),
    "shadows-stdlib": (_add("json.py"), None),
    "pth": (_add("apex.pth", b"import os\n"), None),
    "stray-module": (_add("amp_C.cpython-311-x86_64-linux-gnu.so", b"\x7fELF"), None),
    "data-directory": (_add(f"apex-{VERSION}.data/scripts/python", b"#!python\n"), None),
    "purelib-escape": (_add(f"apex-{VERSION}.data/purelib/../../x.py"), None),
    "bundled-libraries": (_add("apex.libs/libcudart.so.13", b"\x7fELF"), None),
    "entry-points": (
        _add(f"apex-{VERSION}.dist-info/entry_points.txt", b"[console_scripts]\npython = a:b\n"),
        None,
    ),
    "installer-file": (_add(f"apex-{VERSION}.dist-info/INSTALLER", b"pip\n"), None),
    "pyc": (_add("apex/__pycache__/__init__.cpython-311.pyc"), None),
    "two-dist-infos": (_add("torch-2.11.0.dist-info/METADATA", b"Name: torch\n"), None),
    # What it should hold and does not.
    "missing-module": (_drop(MODULE_FILE), None),
    "missing-metadata": (_drop("METADATA"), None),
    "missing-wheel-file": (_drop("WHEEL"), None),
    "no-package": (
        lambda c: [_drop(m.name)(c) for m in c.members[:] if m.name[:5] == "apex/"],
        None,
    ),
    "other-name": (_replaced("METADATA", b"Name: apex", b"Name: apec"), None),
    "other-version": (_replaced("METADATA", b"Version: 0.1", b"Version: 0.2"), None),
    "other-tag": (_replaced("WHEEL", b"Tag: cp311-cp311", b"Tag: cp310-cp310"), None),
    "other-wheel-version": (_replaced("WHEEL", b"Wheel-Version: 1.0", b"Wheel-Version: 2.0"), None),
    # RECORD against members, both ways.
    "record-missing": (lambda c: setattr(c, "dist_info", "nowhere.dist-info"), None),
    "record-lacks-member": (_after_record(_add("apex/extra.py")), None),
    "record-lacks-file": (_after_record(_drop("er.py")), None),
    "record-wrong-hash": (_after_record(_replaced("er.py", b"value", b"VALUE")), None),
    "record-wrong-size": (_size_off_by_one, None),
    "record-no-hash": (
        _rows(
            lambda rows: [
                "apex/__init__.py,," if row.startswith("apex/__init__.py") else row for row in rows
            ]
        ),
        None,
    ),
    "record-weak-hash": (_changed_row("sha256=", "md5="), None),
    "record-duplicate-row": (_rows(lambda rows: [*rows, rows[0]]), None),
    "record-outside": (_rows(lambda rows: [*rows, "../outside.py,sha256=AAAA,1"]), None),
    "record-absolute": (_rows(lambda rows: [*rows, "/etc/absolute.py,sha256=AAAA,1"]), None),
    "record-malformed": (_rows(lambda rows: [*rows, "one,two"]), None),
    "bomb": (_add("apex/zeros.bin", bytes(80 * 1024 * 1024)), None),
}
"""Name -> (change of the contents before writing, change of the bytes after); each is one fault.

All but the first two are faults of the file under a true sha256, as a bad farm would publish them.
"""
