"""From the words of the command line to a subject: looked up, fetched, unpacked."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Sequence, Tuple

from apex_installer.deadline import Deadline
from apex_installer.errors import DownloadError, TrustError, UsageError
from apex_installer.examine.archive import unpack_some
from apex_installer.examine.facts import Found
from apex_installer.examine.subject import (
    Subject,
    find_package,
    folder_subject,
    import_name,
    is_object,
    is_path,
    kind_of_file,
    module_subject,
)
from apex_installer.get.http import Fetcher
from apex_installer.get.url import Url
from apex_installer.model.recipe import Recipe
from apex_installer.put.names import normalized
from apex_installer.put.wheel_rules import parse_fields

MOST_FETCHED = 2 << 30
"""Bytes of an address; the largest wheels there are have less."""
_NAME = re.compile(r"^([^-]+)-([^-]+)(?:-\d[^-]*)?-([^-]+)-([^-]+)-([^-]+)(?:-[0-9a-z_.]+)?\.whl$")
_DATA = re.compile(r"^[^/]+\.data/(?:purelib|platlib)/")
_INFO = re.compile(r"^([^/-]+)-([^/-]+)\.dist-info/(METADATA|WHEEL)$")
_PACKAGES = ("site-packages", "dist-packages")

Fetch = Tuple[bool, Deadline, bool]
"""(whether plain http is taken, the deadline, whether no server may be asked)."""


def find_subject(
    text: str, *, path: Sequence[str], suffix: str, recipe: Recipe, folder: str, fetch: Fetch
) -> Subject:
    """What `text` names; UsageError for what is nothing, TrustError for what is damaged.

    `path` is the app's `sys.path`; what is fetched and unpacked goes into `folder`
    (empty: there is none).
    """
    if "://" in text:
        subject = _of_address(text, folder=folder, path=path, fetch=fetch)
    elif not is_path(text):
        subject = _of_name(text, path, suffix=suffix, recipe=recipe)
    elif os.path.isdir(text):
        subject = _of_folder(os.path.abspath(text), suffix=suffix, recipe=recipe)
    else:
        subject = _of_file(os.path.abspath(text), shown=text, folder=folder, path=path)
    is_ours = subject.kind != "module" and _is_ours(subject.name, recipe)
    return subject._replace(is_ours=is_ours)


def _is_ours(name: str, recipe: Recipe) -> bool:
    return normalized(name) in (normalized(recipe.package), normalized(recipe.distribution))


def _of_name(name: str, path: Sequence[str], *, suffix: str, recipe: Recipe) -> Subject:
    modules = {one for group in recipe.groups.values() for one in group}
    extra = sorted(modules) if _is_ours(name, recipe) else ()
    return find_package(name, path, suffix=suffix, extra=extra)


def _of_folder(folder: str, *, suffix: str, recipe: Recipe) -> Subject:
    """A package's folder stands for the package, whose modules may lie beside it."""
    parent, name = os.path.split(folder)
    if os.path.isfile(os.path.join(folder, "__init__.py")) and not is_path(name):
        return _of_name(name, [parent], suffix=suffix, recipe=recipe)
    return folder_subject(folder)


def _of_address(text: str, *, folder: str, path: Sequence[str], fetch: Fetch) -> Subject:
    address = Url.parse(text)
    if address.scheme == "file":
        return _of_file(address.file_path, shown=text, folder=folder, path=path)
    allow_http, deadline, offline = fetch
    if offline:
        raise DownloadError(f"--offline, and {address.shown} is not a file:// URL")
    _require(folder)
    base = address._replace(path=address.path.partition("?")[0]).path.rpartition("/")[2]
    name = re.sub(r"%([0-9A-Fa-f]{2})", lambda match: chr(int(match.group(1), 16)), base)
    into = os.path.join(folder, re.sub(r"[^\w.+-]", "_", name) or "file")
    with Fetcher(allow_http=allow_http, deadline=deadline) as fetcher:
        try:
            size = fetcher.save(text, into, limit=MOST_FETCHED)
        except OSError as error:
            why = error.strerror or error
            raise DownloadError(f"cannot write {into}: {why}; free space or set TMPDIR") from error
    note = f"{address.shown}: {size} bytes, not verified: nothing says what their sha256 should be"
    try:
        subject = _of_file(into, shown=address.shown, folder=folder, path=path)
    except UsageError as error:
        raise TrustError(f"{error}; is it a sign-in page?") from error
    return subject._replace(notes=(note, *subject.notes))


def _of_file(file: str, *, shown: str, folder: str, path: Sequence[str]) -> Subject:
    if not os.path.lexists(file) and "/" not in shown and not shown.endswith((".whl", ".so")):
        raise UsageError(f"{shown!r} is no path, address or import name")
    try:
        kind = kind_of_file(file)
    except OSError as error:
        raise UsageError(f"{shown}: {error.strerror}") from error
    if kind == "module":
        return module_subject(file)._replace(where=shown)
    if kind == "wheel":
        _require(folder)
        return _of_wheel(file, shown=shown, folder=os.path.join(folder, "wheel"), path=path)
    raise UsageError(f"{shown}: is neither a wheel nor an extension module, by its first bytes")


def _of_wheel(file: str, *, shown: str, folder: str, path: Sequence[str]) -> Subject:
    os.mkdir(folder)
    try:
        unpacked = unpack_some(file, into=folder, wanted=_is_wanted)
    except TrustError as error:
        raise TrustError(f"{shown}: {str(error).replace(f'{file}: ', '')}") from error
    infos = [match for name in unpacked.names for match in [_INFO.match(name)] if match]
    if not infos:
        raise TrustError(f"{shown}: is a zip archive, but no wheel: it has no dist-info")
    info = os.path.dirname(infos[0].group(0))
    metadata, wheel = (_fields(os.path.join(folder, info, name)) for name in ("METADATA", "WHEEL"))
    objects = [name for name in unpacked.names if is_object(name)]
    _beside_the_rest(folder, path)
    return Subject(
        "wheel",
        (metadata.get("name") or [infos[0].group(1)])[0],
        (metadata.get("version") or [infos[0].group(2)])[0],
        shown,
        folder,
        found=tuple(_found(name, folder) for name in objects),
        tags=_tags(os.path.basename(file), wheel.get("tag", [])),
        requires=tuple(metadata.get("requires-dist", ())),
        names=tuple(_DATA.sub("", name) for name in unpacked.names),
        notes=(unpacked.note,) if unpacked.note else (),
    )


def _require(folder: str) -> None:
    if not folder:
        raise DownloadError("no temporary directory to unpack in: set TMPDIR")


def _is_wanted(name: str) -> bool:
    """Modules and libraries, metadata, and top-level Python files, which may be stand-ins."""
    is_top_level = name.endswith(".py") and "/" not in _DATA.sub("", name)
    return is_object(name) or _INFO.match(name) is not None or is_top_level


def _found(name: str, folder: str) -> Found:
    plain = _DATA.sub("", name)
    return Found(import_name(plain), plain, os.path.join(folder, name))


def _fields(path: str) -> Dict[str, List[str]]:
    try:
        with open(path, "rb") as file:
            return parse_fields(file.read())
    except OSError:
        return {}


def _tags(file: str, stated: Sequence[str]) -> Tuple[str, ...]:
    """As pip reads them: of the file's name; of WHEEL where the name is none of a wheel."""
    match = _NAME.match(file)
    if match is None:
        return tuple(tag for tag in stated if tag.count("-") == 2)  # noqa: PLR2004 - PEP 425
    pythons, abis, platforms = (part.split(".") for part in match.groups()[2:])
    return tuple(f"{p}-{a}-{f}" for p in pythons for a in abis for f in platforms)


def _beside_the_rest(folder: str, path: Sequence[str]) -> None:
    """Links to what is installed, so that an rpath to a neighbour leads where it would."""
    for directory in path:
        if os.path.basename(directory) not in _PACKAGES or not os.path.isdir(directory):
            continue
        for name in os.listdir(directory):
            link = os.path.join(folder, name)
            if not os.path.lexists(link):
                os.symlink(os.path.join(directory, name), link)
