"""What nvcc puts into a module, as far as its headers say: no code, but for which GPUs.

TinyElf(appended=fatbin("8.0", "9.0", ptx=("9.0",))) is a module whose machine code can be read.
"""

from __future__ import annotations

import struct

_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_ENTRY = "<HHIQIIHHIIIQ"
_HEADER = 64
_PAYLOAD = b"\0" * 64


def fatbin(*machine_code: str, ptx: tuple[str, ...] = ()) -> bytes:
    """One container, aligned to 8 bytes; architectures are written `9.0`."""
    entries = b"".join(
        [_entry(_CUBIN, arch) for arch in machine_code] + [_entry(_PTX, arch) for arch in ptx]
    )
    return struct.pack("<IHHQ", _MAGIC, 1, 16, len(entries)) + entries


def _entry(kind: int, arch: str) -> bytes:
    number = int(arch.replace(".", ""))
    header = struct.pack(_ENTRY, kind, 0x0101, _HEADER, len(_PAYLOAD), 0, 0, 0, 0, number, 0, 0, 0)
    return header.ljust(_HEADER, b"\0") + _PAYLOAD
