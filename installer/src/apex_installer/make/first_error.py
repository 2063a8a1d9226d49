"""The first error in a tool's words: file, line and what it says. Pure.

Compilers say a hundred lines after the one that matters, and drivers end with a line that says
nothing (`collect2: error: ld returned 1 exit status`).
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class FirstError:
    """Where and what."""

    message: str
    file: str = ""
    line: int = 0

    @property
    def text(self) -> str:
        """`layer_norm_cuda.cpp:12: 'foo' was not declared in this scope`."""
        if self.file and self.line:
            return f"{self.file}:{self.line}: {self.message}"
        return f"{self.file}: {self.message}" if self.file else self.message


_WITH_PLACE = (
    # gcc, clang: a.cpp:12:5: error: … ; a.cpp:1:10: fatal error: x.h: No such file or directory
    re.compile(r"^(?P<file>[^\s:][^:]*):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<what>.+)$"),
    # cudafe++, cicc: a.cu(12): error: … ; a.cu(12): catastrophic error: …
    re.compile(
        r"^(?P<file>[^\s(][^(]*)\((?P<line>\d+)\): "
        r"(?:catastrophic |internal )?error(?: #[\w-]+)?: (?P<what>.+)$"
    ),
    # ptxas /tmp/x.ptx, line 24; error   : …
    re.compile(r"^ptxas (?P<file>[^,]+), line (?P<line>\d+); (?:fatal|error)\s*: (?P<what>.+)$"),
    # ld: a.cpp:(.text+0x1f): undefined reference to `f()'
    re.compile(
        r"^(?:\S*ld: )?(?P<file>[^\s:]+):(?P<line>\(\.\S+?\)): (?P<what>undefined reference .+)$"
    ),
)
_WITHOUT_PLACE = (
    re.compile(r"^nvcc fatal\s*: (?P<what>.+)$"),
    re.compile(r"^(?P<what>(?:ptxas|nvlink|fatbinary)\s+(?:error|fatal)\s*: .+)$"),
    re.compile(r"^(?P<what>\S*ld: (?:cannot find|error|final link).+)$"),
    re.compile(
        r"^(?P<what>\S*(?:cc1plus|cicc|cudafe\+\+|as|gcc|g\+\+|c\+\+): (?:fatal )?error: .+)$"
    ),
    re.compile(
        r"^(?P<what>.*(?:No space left on device|virtual memory exhausted|out of memory).*)$"
    ),
    re.compile(r"^(?P<what>.*(?:error while loading shared libraries|command not found).*)$"),
    re.compile(r"^(?P<what>\S+ was killed|Killed.*)$"),
)
_KILLED = re.compile(r"Killed signal|died due to signal 9|^Killed\b|out of memory", re.MULTILINE)


def was_killed_for_memory(words: str, status: int) -> bool:
    """Whether the kernel, most likely, ended this compiler or a child of it for memory."""
    return status == -signal.SIGKILL or bool(_KILLED.search(words))


def find_first_error(words: str, *, status: int) -> FirstError:
    """The first line that is an error; else the last line that says something."""
    for line in words.splitlines():
        found = _match(line.strip())
        if found is not None:
            return found
    if status < 0:
        return FirstError(f"ended by signal {-status} ({signal.Signals(-status).name})")
    said = [line.strip() for line in words.splitlines() if line.strip()]
    return FirstError(said[-1] if said else f"ended with status {status} and no word")


def _match(line: str) -> Optional[FirstError]:
    for pattern in _WITH_PLACE:
        match = pattern.match(line)
        if match:
            number = match.group("line")
            return FirstError(
                match.group("what"), match.group("file"), int(number) if number.isdigit() else 0
            )
    for pattern in _WITHOUT_PLACE:
        match = pattern.match(line)
        if match:
            return FirstError(match.group("what"))
    return None
