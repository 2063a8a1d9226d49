"""What a pod compiles from, in the index: each ref's source as an archive, and build requirements.

Both lie among the files by their content. `sources.json` says which archive is which commit's; a
build requirement is found by the sha256 that the installer's pins state.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apex_installer.get.sources import DOCUMENT, SCHEMA
from wheelbuild.engines.toolkit import fetch_wheels
from wheelbuild.index.writing import write_index
from wheelbuild.source import Source, copy_source, find_ref_source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelbuild.recipe import Recipe, Ref
    from wheelbuild.stores.store import Store
    from wheelbuild.toolkits import BuildRequirement

logger = logging.getLogger(__name__)


def publish_source(
    recipe: Recipe, ref: Ref, *, given: Path | None, cache: Path, store: Store
) -> str:
    """Pack the source of one ref into the index; its file name. Repeatable.

    SourceError where the commit cannot be had, or `given` is a checkout of another one.
    """
    source = find_ref_source(recipe, ref, given=given, cache=cache)
    with tempfile.TemporaryDirectory(prefix="wheelbuild-source-") as scratch:
        name = f"{recipe.distribution}-{ref.date}-{ref.commit[:12]}.tar.gz"
        archive = pack_source(source, out=Path(scratch) / name)
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        with store.locked():
            url = store.put_file(archive, sha256=sha256)
            size = archive.stat().st_size
            row = {"file": name, "url": url, "sha256": sha256, "size": size}
            _add_row(ref.commit, row, store=store)
    logger.info("%s: %s, %d bytes", ref.name, name, size)
    return name


def publish_requirements(
    requirements: Iterable[BuildRequirement], *, cache: Path, store: Store
) -> None:
    """Put the wheels that a setup.py imports among the files; CellError: not to be had."""
    wanted = tuple(requirements)
    folder = cache / "build-requirements"
    wheels = fetch_wheels(wanted, into=folder, name="build-requirements")
    with store.locked():
        for one in wanted:
            store.put_file(wheels[one.name], sha256=one.sha256)


def pack_source(source: Source, *, out: Path) -> Path:
    """Write `out`, a .tar.gz with one folder at its top; the same files give the same bytes."""
    top = out.name.removesuffix(".tar.gz")
    with tempfile.TemporaryDirectory(prefix="wheelbuild-source-") as scratch:
        clean = Path(scratch) / top
        copy_source(source, into=clean)
        with (
            out.open("wb") as file,
            gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as archive,
        ):
            for path in sorted(clean.rglob("*")):
                archive.add(
                    path,
                    f"{top}/{path.relative_to(clean).as_posix()}",
                    recursive=False,
                    filter=_without_person_and_time,
                )
        shutil.rmtree(clean)
    return out


def _without_person_and_time(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _add_row(commit: str, row: dict[str, Any], *, store: Store) -> None:
    text = store.read_page(DOCUMENT)
    known = json.loads(text)["sources"] if text else {}
    sources = dict(sorted({**known, commit: row}.items()))
    document = json.dumps({"schema": SCHEMA, "sources": sources}, indent=1) + "\n"
    write_index(store.entries(), store=store, beside={DOCUMENT: document.encode()})
