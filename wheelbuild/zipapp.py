"""Packs apex-install with its data into one file that any Python >= 3.9 runs."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import zipfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wheelbuild.command import run_command
from wheelbuild.engines.interpreters import find_minor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

logger = logging.getLogger(__name__)

SHEBANG = b"#!/usr/bin/env python3\n"
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
"""Whose compiled modules are packed, where this machine has that Python: compiling the sources
costs a pod 60 ms and more at each start."""
COMPILED = "compiled/"
_KEPT = ("PATH", "LD_LIBRARY_PATH")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack_zipapp(
    *,
    out: Path,
    texts: Mapping[str, str],
    carried: Mapping[str, bytes] | None = None,
    index_url: str | None = None,
    repository_url: str | None = None,
    pythons: Iterable[str] = PYTHONS,
) -> Path:
    """Write `out`, executable; the same input gives the same bytes.

    `texts`: what the package's `data` folder shall hold, by file name; `carried`: more of it, of
    any bytes. `index_url` is baked in as the default index, `repository_url` as the place whose
    form asks for a wheel.
    """
    members = _sources()
    members |= {f"apex_installer/data/{name}": text.encode() for name, text in texts.items()}
    members |= {f"apex_installer/data/{name}": data for name, data in (carried or {}).items()}
    baked = {"index_url": index_url, "repository_url": repository_url}
    defaults = {name: url for name, url in baked.items() if url}
    if defaults:
        members["apex_installer/data/defaults.json"] = json.dumps(defaults).encode()
    members["compiled_modules.py"] = _text_of("compiled_modules.py").encode()
    members |= _compiled(members, pythons)
    members["__main__.py"] = _text_of("zipapp_main.py").encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    with part.open("wb") as stream:
        stream.write(SHEBANG)
        _write_zip(stream, members)
    part.chmod(0o755)
    return part.replace(out)


def _write_zip(stream: BinaryIO, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(members):
            item = zipfile.ZipInfo(name, date_time=_EPOCH)
            item.create_system = 3
            item.external_attr = 0o100644 << 16
            stored = name.startswith(COMPILED)  # holds deflated modules
            item.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(item, members[name])


def _sources() -> dict[str, bytes]:
    """The package as it is installed here, its generated data apart."""
    with resources.as_file(resources.files("apex_installer")) as package:
        return {
            f"apex_installer/{path.relative_to(package).as_posix()}": path.read_bytes()
            for path in sorted(package.rglob("*.py"))
        }


def _text_of(name: str) -> str:
    return resources.files("wheelbuild").joinpath(name).read_text(encoding="utf-8")


def _compiled(members: Mapping[str, bytes], pythons: Iterable[str]) -> dict[str, bytes]:
    """`compiled/cpython-310` and so on: one member per Python that is found."""
    compiled = {}
    with tempfile.TemporaryDirectory(prefix="wheelbuild-zipapp-") as scratch:
        sources = Path(scratch) / "sources"
        for name, content in members.items():
            if name.endswith(".py"):
                (sources / name).parent.mkdir(parents=True, exist_ok=True)
                (sources / name).write_bytes(content)
        script = Path(scratch) / "compile_modules.py"
        script.write_text(_text_of("compile_modules.py"), encoding="utf-8")
        environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environ["PYTHONHASHSEED"] = "0"
        for minor in pythons:
            python = find_minor(minor)
            if python is None:
                logger.debug("no Python %s here: on one, apex-install.pyz starts slower", minor)
                continue
            result = Path(scratch) / minor
            # Before 3.11 a set of strings is marshalled in the order of their hashes. With `-I`
            # the variable would be ignored, so all others are left out instead.
            run_command([python, "-S", script, sources, result], environ=environ)
            compiled[f"{COMPILED}cpython-{minor.replace('.', '')}"] = result.read_bytes()
    return compiled
