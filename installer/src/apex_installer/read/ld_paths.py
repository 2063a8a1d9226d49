"""Where glibc's loader looks for a library: rpaths, LD_LIBRARY_PATH, its cache, its own folders.

Source: ld.so(8); glibc `elf/dl-load.c` (`_dl_map_object`, `fillin_rpath`), `sysdeps/generic/
dl-cache.h`. Left out: the glibc-hwcaps subfolders, whose libraries define the same symbols.
"""

from __future__ import annotations

import functools
import os
import re
import struct
from typing import Dict, Mapping, Optional, Tuple

CACHE = "/etc/ld.so.cache"
_MAGIC = b"glibc-ld.so.cache1.1"
_CACHE_HEADER, _CACHE_ENTRY = 48, "<iIIIQ"
_CACHE_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}
"""FLAG_ELF_LIBC6 and the architecture's own."""


def default_folders(machine: str) -> Tuple[str, ...]:
    """The loader's built-in folders, Debian's multiarch ones first."""
    multiarch = (f"/lib/{machine}-linux-gnu", f"/usr/lib/{machine}-linux-gnu")
    return (*multiarch, "/lib64", "/usr/lib64", "/lib", "/usr/lib")


@functools.lru_cache(maxsize=256)
def expand_folders(text: Optional[str], *, origin: str, machine: str) -> Tuple[str, ...]:
    """The folders of a DT_RPATH or DT_RUNPATH, `$ORIGIN`, `$LIB` and `$PLATFORM` put in."""
    if not text:
        return ()
    library = "lib64" if os.path.isdir("/lib64/.") else "lib"
    if os.path.isdir(f"/lib/{machine}-linux-gnu"):
        library = f"lib/{machine}-linux-gnu"
    tokens = {"ORIGIN": origin, "LIB": library, "PLATFORM": machine}
    pattern = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM))")
    return tuple(
        pattern.sub(lambda match: tokens[match.group(1) or match.group(2)], folder) or "."
        for folder in text.split(":")
    )


def library_path(environ: Mapping[str, str], *, origin: str, machine: str) -> Tuple[str, ...]:
    """LD_LIBRARY_PATH; `:` and `;` separate, an empty item is the current folder."""
    text = environ.get("LD_LIBRARY_PATH", "")
    return expand_folders(text.replace(";", ":"), origin=origin, machine=machine)


def read_cache(machine: str, *, path: str = CACHE) -> Dict[str, str]:
    """Soname -> path as `ldconfig` found it; empty where there is no cache of the known form."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return {}
    return parse_cache(data, machine)


def parse_cache(data: bytes, machine: str) -> Dict[str, str]:
    """The new form of `/etc/ld.so.cache`, alone or behind the old one."""
    start = data.find(_MAGIC)
    flags = _CACHE_FLAGS.get(machine)
    if start < 0 or flags is None or len(data) < start + _CACHE_HEADER:
        return {}
    (count,) = struct.unpack_from("<I", data, start + len(_MAGIC))
    size = struct.calcsize(_CACHE_ENTRY)
    table = data[start + _CACHE_HEADER : start + _CACHE_HEADER + count * size]
    found: Dict[str, str] = {}
    whole = table[: len(table) // size * size]
    for kind, key, value, _, hwcap in struct.iter_unpack(_CACHE_ENTRY, whole):
        if kind == flags and hwcap == 0:
            found.setdefault(_text(data, start + key), _text(data, start + value))
    return found


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at)
    return data[at : end if end >= 0 else len(data)].decode("utf-8", "surrogateescape")
