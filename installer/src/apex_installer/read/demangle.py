"""C++ names for people, by the C++ library's own demangler; only when something is refused."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=256)
def demangle(symbol: str) -> str:
    """`_ZN3c105ErrorD1Ev` -> `c10::Error::~Error()`; the symbol itself where that cannot be had."""
    if not symbol.startswith("_Z"):
        return symbol
    import ctypes  # noqa: PLC0415 - costs 6 ms, and most installs refuse nothing

    try:
        function = getattr(ctypes.CDLL("libstdc++.so.6"), "__cxa_demangle")
        free = ctypes.CDLL(None).free
    except (OSError, AttributeError):
        return symbol
    # Itanium C++ ABI, 3.4 "Demangler API": returns malloc'ed text, or NULL and a status.
    function.restype = ctypes.c_void_p
    function.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    free.argtypes = (ctypes.c_void_p,)
    status = ctypes.c_int()
    found = function(symbol.encode("utf-8", "surrogateescape"), None, None, ctypes.byref(status))
    if not found:
        return symbol
    try:
        return ctypes.string_at(found).decode("utf-8", "replace")
    finally:
        free(found)
