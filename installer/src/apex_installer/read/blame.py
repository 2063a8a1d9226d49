"""Which library should define a symbol, told from the symbol's name alone."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

_SPECIAL = r"_Z(?:T[VTIS]|GV|TW|TH|T[hv]n?\d+_(?:n?\d+_)?)?"
"""Itanium C++ ABI 5.1.4: tables, typeinfo, guards and thunks stand before the name."""
_START = re.compile(_SPECIAL + r"N?[rVK]*[RO]?(St|S[absiod]|\d)")
_LENGTH = re.compile(r"\d+")

_BY_NAMESPACE: Tuple[Tuple[Tuple[str, ...], str], ...] = (
    (("c10", "cuda"), "libc10_cuda.so"),
    (("c10", "hip"), "libc10_hip.so"),
    (("c10d",), "libtorch_cpu.so"),
    (("c10",), "libc10.so"),
    (("at", "cuda"), "libtorch_cuda.so"),
    (("torch", "cuda"), "libtorch_cuda.so"),
    (("at",), "libtorch_cpu.so"),
    (("torch",), "libtorch_cpu.so"),
    (("caffe2",), "libtorch_cpu.so"),
    (("std",), "libstdc++.so.6"),
    (("__cxxabiv1",), "libstdc++.so.6"),
)
_BY_PREFIX: Tuple[Tuple[str, str], ...] = (
    ("THP", "libtorch_python.so"),
    ("Py", "the interpreter"),
    ("_Py", "the interpreter"),
    ("cublasLt", "libcublasLt.so"),
    ("cublas", "libcublas.so"),
    ("cudnn", "libcudnn.so"),
    ("cusparse", "libcusparse.so"),
    ("cusolver", "libcusolver.so"),
    ("curand", "libcurand.so"),
    ("nccl", "libnccl.so"),
    ("nvrtc", "libnvrtc.so"),
    ("cuda", "libcudart.so"),
    ("__cuda", "libcudart.so"),
    ("cu", "libcuda.so.1"),
    ("aoti_torch", "libtorch_cpu.so"),
    ("torch_", "libtorch_cpu.so"),
    ("__cxa", "libstdc++.so.6"),
    ("_Zn", "libstdc++.so.6"),
    ("_Zd", "libstdc++.so.6"),
)


def library_for(symbol: str) -> Optional[str]:
    """`_ZN3c104cuda9SetDeviceEa` -> `libc10_cuda.so`; None where the name does not tell."""
    names = namespaces(symbol)
    for start, library in _BY_NAMESPACE:
        if tuple(names[: len(start)]) == start:
            return library
    for prefix, library in _BY_PREFIX:
        if symbol.startswith(prefix):
            return library
    return None


def namespaces(symbol: str) -> List[str]:
    """The first two parts of a mangled C++ name: `_ZN2at4cuda…` -> [`at`, `cuda`]."""
    match = _START.match(symbol)
    if not match:
        return []
    if match.group(1).startswith("S"):
        return ["std"]
    found: List[str] = []
    at = match.start(1)
    while len(found) < 2:  # noqa: PLR2004 - no rule above asks for more
        length = _LENGTH.match(symbol, at)
        if not length:
            break
        at = length.end() + int(length.group())
        found.append(symbol[length.end() : at])
    return found
