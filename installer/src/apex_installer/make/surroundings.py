"""The variables that a compile sees: an allow-list, so that a pod's leftovers decide nothing.

Pure. Upstream's build variables (`APEX_CUDA_EXT`, …) and the compilers' own (`NVCC_APPEND_FLAGS`,
`CFLAGS`, `CPATH`, …) are left out, and those that would have had a say are named.
"""

from __future__ import annotations

import re
from typing import Dict, Mapping, Tuple

_KEPT = frozenset(
    [
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LD_LIBRARY_PATH"),
        *("PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "SOURCE_DATE_EPOCH"),
        # Which compiler: the user's choice, where the default one is too new for nvcc.
        *("CC", "CXX", "NVCC_CCBIN", "CUDAHOSTCXX", "TORCH_DONT_CHECK_COMPILER_ABI"),
    ]
)
_WOULD_DECIDE = re.compile(
    r"^(APEX_(?!INSTALL).*|NVCC_.*|TORCH_.*|MAX_JOBS|NVTE_.*|CUDA_.*|"
    r"(C|CXX|CPP|LD|NVCC)FLAGS|CPATH|C(PLUS)?_INCLUDE_PATH|LIBRARY_PATH|GCC_.*|COMPILER_PATH|"
    r"DISTUTILS_.*|SETUPTOOLS_.*|_GLIBCXX_.*|GLIBC_TUNABLES|LD_PRELOAD)$"
)
_EPOCH = "315532800"
"""1980-01-01, the first day that a zip archive can name: for sources that print `__DATE__`."""


def build_environment(
    environ: Mapping[str, str],
    *,
    flags: Mapping[str, str],
    cuda_home: str,
    architectures: str,
    temporary: str,
) -> Tuple[Dict[str, str], Tuple[str, ...]]:
    """The environment of setup.py and of the compilers, and the names that were left out of it.

    `flags` are the ref's own variables; `architectures` is TORCH_CUDA_ARCH_LIST, may be empty.
    """
    kept = {name: value for name, value in environ.items() if name in _KEPT}
    removed = tuple(
        sorted(name for name in environ if name not in _KEPT and _WOULD_DECIDE.match(name))
    )
    kept.setdefault("SOURCE_DATE_EPOCH", _EPOCH)
    kept.update(
        {
            **flags,
            "LC_ALL": "C",
            "TMPDIR": temporary,
            "TORCH_EXTENSIONS_DIR": temporary,
            "PYTHONDONTWRITEBYTECODE": "1",
            # A build is for the architectures that are asked for, whatever GPU is in the machine;
            # and torch without a visible GPU does not start CUDA.
            "CUDA_VISIBLE_DEVICES": "",
            # torch 2.15 and newer puts any ccache or sccache of PATH before the compilers, and
            # ccache as it is set up by default takes stale objects for device code.
            "TORCH_NO_COMPILER_WRAPPER": "1",
        }
    )
    if architectures:
        kept["TORCH_CUDA_ARCH_LIST"] = architectures
    if cuda_home:
        kept["CUDA_HOME"] = cuda_home
        kept["PATH"] = f"{cuda_home}/bin:{kept.get('PATH', '/usr/bin:/bin')}"
    return kept, removed
