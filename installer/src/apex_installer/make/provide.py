"""Exactly torch's CUDA on this pod: what is there, else NVIDIA's archives or wheels, else apt.

A toolkit that is there is taken as it is; one that is fetched lies in a private folder. Either is
completed with the headers that torch's own wheels brought, and those that they did not bring are
taken alone out of NVIDIA's wheels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple

from apex_installer.errors import ToolkitError
from apex_installer.get.http import Fetcher, NoRangesError
from apex_installer.get.ranges import read_members
from apex_installer.get.supply import PinnedFile, Supply, at
from apex_installer.make.compose import (
    check_whole,
    lay_links,
    link_bundled_libraries,
    nvidia_folders,
    toolkit_folders,
)
from apex_installer.make.pins import ARCHIVES, WHEELS, Part, Pinned
from apex_installer.make.toolkit import (
    Candidate,
    Toolkit,
    choose_toolkit,
    find_missing,
    list_candidates,
    read_release,
    survey,
)
from apex_installer.make.unpack import unpack_archive, unpack_wheel
from apex_installer.threads import map_in_threads

AUTO, APT, ARCHIVE, PYPI = "auto", "apt", "archive", "pypi"
THERE = "there"
_UNPACKERS = 2
"""At once; xz is the slow part, and the disk is shared."""


@dataclass(frozen=True)
class Ways:
    """How a toolkit may come, best first, and why other ways do not count. Pure value."""

    ways: Tuple[str, ...]
    """Of `there`, `archives`, `wheels`, `apt`."""
    home: Optional[str] = None
    """The one folder that counts, where one was named."""


def choose_ways(asked: str, pinned: Optional[Pinned], *, cuda: str) -> Ways:
    """What `--toolkit` means; ToolkitError where it asks for what no pin provides."""
    if asked == AUTO:
        return Ways((THERE, *([pinned.how] if pinned else [])))
    if asked == APT:
        return Ways((APT,))
    wanted = {ARCHIVE: ARCHIVES, PYPI: WHEELS}.get(asked)
    if wanted is None:
        return Ways((THERE,), home=asked)
    if pinned is None or pinned.how != wanted:
        has = f"comes as {pinned.how}" if pinned else "is not pinned"
        raise ToolkitError(f"--toolkit {asked}: CUDA {cuda} {has}; leave it out or name a folder")
    return Ways((wanted,))


def find_there(
    cuda: str, ways: Ways, *, environ: Mapping[str, str]
) -> Tuple[Optional[Toolkit], Tuple[str, ...]]:
    """(the toolkit on this machine or None, why each place that was looked at does not count)."""
    if THERE not in ways.ways:
        return None, ()
    if ways.home:
        return choose_toolkit([Candidate(os.path.abspath(ways.home), "--toolkit")], cuda=cuda), ()
    return survey(list_candidates(cuda, environ=environ), cuda=cuda)


def fetch_toolkit(pinned: Pinned, *, supply: Supply, mirror: Optional[str], into: str) -> Toolkit:
    """Fetch all parts and unpack them below `into`; not yet whole: see `complete`."""
    return unpack_parts(pinned, fetch_parts(pinned, supply=supply, mirror=mirror), into=into)


def unpack_parts(pinned: Pinned, paths: Sequence[str], *, into: str) -> Toolkit:
    """Unpack all parts, whose files lie at `paths`, below `into`; not yet whole: see `complete`.

    ToolkitError where the compiler is of another release, or does not run.
    """

    def unpack(task: Tuple[Part, str]) -> None:
        part, path = task
        folder = os.path.join(into, part.name)
        if path.endswith(".whl"):
            unpack_wheel(path, into=folder)
        else:
            unpack_archive(path, into=folder)

    map_in_threads(unpack, list(zip(pinned.parts, paths)), threads=_UNPACKERS)
    home = os.path.join(into, "parts")
    folders = [one for part in pinned.parts for one in part_folders(os.path.join(into, part.name))]
    lay_links(folders, into=home)
    release = read_release(home)
    if release != pinned.cuda:
        said = f"its nvcc says {release}" if release else "its nvcc does not run"
        raise ToolkitError(f"CUDA {pinned.release} as pinned: {said}, not {pinned.cuda}")
    how = "NVIDIA's archives" if pinned.how == ARCHIVES else "NVIDIA's wheels"
    return Toolkit(home, pinned.cuda, how)


def fetch_parts(pinned: Pinned, *, supply: Supply, mirror: Optional[str]) -> List[str]:
    """Paths of all parts in the cache, in order."""
    return supply.get_all(
        [_wanted(part, pinned, supply=supply, mirror=mirror) for part in pinned.parts]
    )


def complete(
    toolkit: Toolkit,
    pinned: Optional[Pinned],
    *,
    torch_directory: str,
    supply: Supply,
    into: str,
) -> Toolkit:
    """The toolkit as it is if nothing is missing, else one of links below `into` that is whole.

    ToolkitError names what neither it, nor torch, nor a pinned wheel has.
    """
    if not find_missing(toolkit.home):
        return toolkit
    bundled = link_bundled_libraries(torch_directory, into=os.path.join(into, "bundled"))
    folders = (*toolkit_folders(toolkit.home, torch_directory=torch_directory), *bundled)
    lacking = lacking_headers(pinned.headers if pinned else (), folders)
    fetched = [
        fetch_headers(part, supply=supply, into=os.path.join(into, part.name)) for part in lacking
    ]
    home = os.path.join(into, "whole")
    lay_links([*folders, *(one for folder in fetched for one in part_folders(folder))], into=home)
    check_whole(home, toolkit.how)
    with_what = "torch's and NVIDIA's headers" if lacking else "torch's headers"
    return Toolkit(home, toolkit.version, f"{toolkit.how}, completed with {with_what}")


def lacking_headers(headers: Sequence[Part], folders: Sequence[str]) -> Tuple[Part, ...]:
    """Those parts whose header no folder has."""
    return tuple(
        part
        for part in headers
        if not any(os.path.exists(os.path.join(one, "include", part.holds)) for one in folders)
    )


def fetch_headers(part: Part, *, supply: Supply, into: str) -> str:
    """The headers of one of NVIDIA's wheels, alone where the server allows it; returns `into`."""
    if supply.has(part.sha256):
        return _from_whole(part, supply=supply, into=into)
    try:
        with supply.fetcher() as fetcher:
            members = _headers_alone(part, supply=supply, fetcher=fetcher)
    except NoRangesError:
        return _from_whole(part, supply=supply, into=into)
    for name, data in members.items():
        path = os.path.join(into, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
    supply.downloaded += sum(map(len, members.values()))
    return into


def _headers_alone(part: Part, *, supply: Supply, fetcher: Fetcher) -> Mapping[str, bytes]:
    if not part.record_sha256:
        raise NoRangesError(f"{part.file}: no RECORD is pinned")
    return read_members(
        supply.on_pypi(part.name, part.file)(fetcher),
        size=part.size,
        record_sha256=part.record_sha256,
        wanted=lambda name: name.startswith("nvidia/") and "/include/" in name,
        fetcher=fetcher,
    )


def _from_whole(part: Part, *, supply: Supply, into: str) -> str:
    return unpack_wheel(supply.get_all([whole_wheel(part, supply=supply)])[0], into=into)


def whole_wheel(part: Part, *, supply: Supply) -> PinnedFile:
    """A wheel of NVIDIA's whose headers are wanted, as one file."""
    address = supply.on_pypi(part.name, part.file)
    return PinnedFile(part.base, part.sha256, part.size, (address,))


def headers_nowhere(pinned: Pinned, torch_directory: str) -> Tuple[Part, ...]:
    """What torch's own wheels did not bring, before any toolkit is here."""
    return lacking_headers(pinned.headers, nvidia_folders(torch_directory))


def part_folders(folder: str) -> List[str]:
    """The folders with `bin`, `include`, `lib` of an unpacked archive, or of a wheel."""
    root = os.path.join(folder, "nvidia")
    if not os.path.isdir(root):
        return [folder]
    return [
        path
        for name in sorted(os.listdir(root))
        for path in (os.path.join(root, name),)
        if os.path.isdir(path)
    ]


def _wanted(part: Part, pinned: Pinned, *, supply: Supply, mirror: Optional[str]) -> PinnedFile:
    if pinned.how == WHEELS:
        address = supply.on_pypi(part.name, part.file)
    else:
        base = mirror or pinned.base_url
        address = at((base if base.endswith("/") else f"{base}/") + part.file)
    return PinnedFile(part.base, part.sha256, part.size, (address,))


def parts_to_fetch(pinned: Pinned, *, supply: Supply) -> Tuple[Part, ...]:
    """Those that the cache does not hold yet."""
    return tuple(part for part in pinned.parts if not supply.has(part.sha256))
