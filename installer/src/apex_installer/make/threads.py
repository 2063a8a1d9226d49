"""How many threads nvcc gets for one object of several architectures. Pure.

An object that takes longer than its share of all the work would be what the build waits for at the
end, however wide it runs. Its architectures are then compiled at once, by nvcc's `--threads`, which
changes nothing in the object; so it is no part of any key.

Source: nvcc's manual, `--threads` ("compiling for multiple architectures", since CUDA 11.2).
"""

from __future__ import annotations

from typing import Sequence, Tuple

_NEARLY = 0.8
"""Share of the fair share from which on an object counts as long: estimates are rough."""


def choose_threads(argv: Sequence[str], *, chain: float, left: float, width: int, free: int) -> int:
    """Threads for the nvcc line `argv`: 1, or up to one per architecture and free place.

    `chain` are the seconds from its start to the end of the longest chain that it begins, `left`
    those of all work that is left, `width` how many compilers run at once.
    """
    codes = count_architectures(argv)
    if codes == 1 or chain <= _NEARLY * left / width:
        return 1
    return max(min(codes, free), 1)


def count_architectures(argv: Sequence[str]) -> int:
    """How many virtual architectures `argv` compiles for; 1 where it names its own threads."""
    if any(part.split("=")[0] in {"--threads", "-threads", "-t"} for part in argv):
        return 1
    generated = (part for part in argv if part.startswith("-gencode="))
    return max(len({part.partition(",")[0] for part in generated}), 1)


def with_threads(argv: Tuple[str, ...], threads: int) -> Tuple[str, ...]:
    """The line with so many threads."""
    return argv if threads == 1 else (*argv, f"--threads={threads}")
