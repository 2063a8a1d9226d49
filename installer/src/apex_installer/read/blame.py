"""Which library should define a symbol, told from the symbol's name alone."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

_SPECIAL = r"_Z(?:T[VTIS]|GV|TW|TH|T[hv]n?\d+_(?:n?\d+_)?)?"
"""Itanium C++ ABI 5.1.4: tables, typeinfo, guards and thunks stand before the name."""
_START = _SPECIAL + r"N?[rVK]*[RO]?(St|S[absiod]|\d)"
_LENGTH = r"\d+"
"""Texts: a check that finds nothing missing never compiles them."""

_IN_ATEN_CORE = (
    r"(?:[A-Z]\w*)?Type|IValue|ivalue|Dispatcher|KernelFunction|Operator(?:Handle|Name)|"
    r"RegisterOperators|FunctionSchema|Argument|Symbol|SymbolicShape|ShapeSymbol"
)
"""What is in namespace c10 and yet not in libc10."""
_BY_NAMESPACE: Tuple[Tuple[str, str], ...] = (
    (r"c10::cuda", "libc10_cuda.so"),
    (r"c10::hip", "libc10_hip.so"),
    (rf"c10::(?:{_IN_ATEN_CORE})", "libtorch_cpu.so"),
    (r"c10(?:::.*)?|caffe2::(?:TypeMeta|detail)", "libc10.so"),
    (r"c10d::ProcessGroupNCCL|at::cuda|at::CUDA\w*|torch::cuda", "libtorch_cuda.so"),
    (r"torch::Py\w*|torch::python|pybind11::.*|THP\w*(?:::.*)?", "libtorch_python.so"),
    (r"(?:c10d|at|torch|caffe2)(?:::.*)?", "libtorch_cpu.so"),
    (r"(?:std|__cxxabiv1)(?:::.*)?", "libstdc++.so.6"),
)
"""The first two parts of a C++ name, and who has it in torch 2.6 and 2.11."""
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
    name = "::".join(namespaces(symbol))
    for pattern, library in _BY_NAMESPACE:
        if re.fullmatch(pattern, name):
            return library
    for prefix, library in _BY_PREFIX:
        if symbol.startswith(prefix):
            return library
    return None


def namespaces(symbol: str) -> List[str]:
    """The first two parts of a mangled C++ name: `_ZN2at4cuda…` -> [`at`, `cuda`]."""
    match = re.match(_START, symbol)
    if not match:
        return []
    if match.group(1).startswith("S"):
        return ["std"]
    found: List[str] = []
    at = match.start(1)
    while len(found) < 2:  # noqa: PLR2004 - no rule above asks for more
        length = re.match(_LENGTH, symbol[at:])
        if not length:
            break
        start = at + length.end()
        at = start + int(length.group())
        found.append(symbol[start:at])
    return found
