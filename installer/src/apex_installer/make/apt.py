"""A toolkit by apt, only when it is asked for: NVIDIA's repository, signed by NVIDIA's key.

Sources: NVIDIA, "CUDA Installation Guide for Linux", network repositories; RFC 4880 for the key.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from apex_installer.errors import ToolkitError, TrustError
from apex_installer.get.supply import Supply
from apex_installer.get.url import Url
from apex_installer.make.pins import Apt
from apex_installer.make.process import Child, wait_for

MAX_KEY = 64 * 1024
SOURCES = "/etc/apt/sources.list.d/apex-install-cuda.list"
KEYRING = "/etc/apt/keyrings/apex-install-cuda.asc"
COMPONENTS = ("nvcc", "cudart-dev", "cccl", "profiler-api", "nvtx")
"""What torch's own wheels do not bring."""
WITH_LIBRARIES = ("libcublas-dev", "libcusparse-dev", "libcusolver-dev", "libcurand-dev")
"""Where they brought nothing."""
_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*?\n(?:[\w-]+:[^\n]*\n)*\s*?\n"
    rb"(.*?)\n(?:=[\w+/]{4}\s|-----END)",
    re.DOTALL,
)
_PUBLIC_KEY = 6
"""Packet tag (RFC 4880, 4.3)."""


@dataclass(frozen=True)
class AptPlan:
    """What will be installed from where."""

    repository: str
    """URL, ends in `/`."""
    packages: Tuple[str, ...]


def plan_apt(
    apt: Optional[Apt], *, cuda: str, os_release: str, lacks_libraries: bool, is_root: bool
) -> AptPlan:
    """The repository of this very distribution, and the packages. Pure.

    ToolkitError says why there are none, and that the archives need neither apt nor root.
    """
    instead = "leave --toolkit out, and the toolkit comes without apt"
    if apt is None:
        raise ToolkitError(f"--toolkit apt: the pins file names no repository: {instead}")
    fields = parse_os_release(os_release)
    name = f"{fields.get('ID', '?')}{fields.get('VERSION_ID', '').replace('.', '')}"
    held = apt.repositories.get(name)
    if held is None:
        known = ", ".join(sorted(apt.repositories))
        raise ToolkitError(f"--toolkit apt: NVIDIA has one for {known}, this is {name}: {instead}")
    if cuda not in held:
        raise ToolkitError(
            f"--toolkit apt: NVIDIA's repository for {name} has no CUDA {cuda} "
            f"(but {', '.join(held)}): {instead}"
        )
    if not is_root:
        raise ToolkitError(f"--toolkit apt: needs root: {instead}")
    release = cuda.replace(".", "-")
    names = [f"cuda-{one}-{release}" for one in COMPONENTS]
    names += [f"{one}-{release}" for one in WITH_LIBRARIES] if lacks_libraries else []
    return AptPlan(f"{apt.base_url}{name}/x86_64/", tuple(names))


def parse_os_release(text: str) -> Mapping[str, str]:
    """os-release(5): name -> value, quotes dropped."""
    rows = re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)
    return {name: value.strip().strip("\"'") for name, value in rows}


def fingerprint_of(armored: bytes) -> str:
    """Of the first public key in an ASCII-armored block (RFC 4880, 6.2, 12.2): 40 hex digits.

    TrustError for what is no such block.
    """
    match = _ARMOR.search(armored.replace(b"\r\n", b"\n"))
    if not match:
        raise TrustError("not an ASCII-armored public key")
    try:
        tag, body = _first_packet(base64.b64decode(match.group(1)))
    except (ValueError, IndexError) as error:
        raise TrustError(f"a malformed public key: {error}") from error
    if tag != _PUBLIC_KEY:
        raise TrustError("the block does not begin with a public key")
    head = b"\x99" + len(body).to_bytes(2, "big")
    return hashlib.sha1(head + body).hexdigest().upper()  # noqa: S324 - the standard says so


def _first_packet(data: bytes) -> Tuple[int, bytes]:
    """(tag, body), of the old and the new format of headers (RFC 4880, 4.2)."""
    first = data[0]
    if first & 0x40:
        tag, length, at = first & 0x3F, data[1], 2
        if length >= 192:  # noqa: PLR2004 - RFC 4880, 4.2.2.2
            length, at = ((length - 192) << 8) + data[2] + 192, 3
    else:
        width = 1 << (first & 0x03)
        tag, length, at = (first & 0x3C) >> 2, int.from_bytes(data[1 : 1 + width], "big"), 1 + width
    return tag, data[at : at + length]


def install_by_apt(
    plan: AptPlan, apt: Apt, *, supply: Supply, folder: str, log: str, ends_at: float
) -> None:
    """Add the repository, whose key must have the pinned fingerprint, and install the packages.

    TrustError for another key; ToolkitError with apt's words; DeadlineError at the time limit.
    """
    with supply.fetcher() as fetcher:
        url = supply.allowed(Url.parse(plan.repository).joined(apt.key).text, apt.key)
        key = fetcher.fetch(url, limit=MAX_KEY)
    found = fingerprint_of(key)
    if found != apt.fingerprint:
        raise TrustError(f"{url}: is key {found}, pinned is {apt.fingerprint}")
    _write(KEYRING, key)
    line = f"deb [arch=amd64 signed-by={KEYRING}] {plan.repository} /\n"
    _write(SOURCES, line.encode())
    alone = ("-o", f"Dir::Etc::SourceList={SOURCES}", "-o", "Dir::Etc::SourceParts=-")
    install = ("install", "-y", "--no-install-recommends", *plan.packages)
    for words in (("update", *alone), install):
        _apt_get(words, folder=folder, log=log, ends_at=ends_at)


def _apt_get(words: Tuple[str, ...], *, folder: str, log: str, ends_at: float) -> None:
    said = os.path.join(folder, "apt-said")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        child = Child(["apt-get", "-q", *words], environ=environ, folder=folder, words=said)
    except OSError as error:
        raise ToolkitError(f"--toolkit apt: apt-get: {error.strerror}") from error
    status = wait_for(child, ends_at=ends_at, doing=f"apt-get {words[0]} ran")
    with open(said, encoding="utf-8", errors="replace") as file:
        text = file.read()
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"+ apt-get {' '.join(words)}\n{text}")
    if status:
        errors = [line for line in text.splitlines() if line.startswith("E: ")]
        why = errors[0][3:] if errors else f"exit status {status}"
        raise ToolkitError(f"apt-get {words[0]}: {why}; see {log}")


def _write(path: str, content: bytes) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    except OSError as error:
        raise ToolkitError(f"--toolkit apt: {path}: {error.strerror}") from error
