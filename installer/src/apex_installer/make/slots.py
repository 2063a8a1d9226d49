"""The width of builds that run at the same time: as many slots as compilers, each a locked file.

The kernel frees a lock with the process that holds it, however that ends; so no slot is ever lost
(flock(2)). A build that has its machine alone takes no locks.
"""

from __future__ import annotations

import fcntl
import os
from typing import List, Optional, Sequence


class Slots:
    """Those of one folder; without a folder there is no end of them."""

    def __init__(self, folder: Optional[str], count: int) -> None:
        """The folder is made; builds of another `count` share the first ones."""
        self._all: List[int] = []
        self._shared = folder is not None
        if folder is not None:
            os.makedirs(folder, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            names = [os.path.join(folder, f"{number}.lock") for number in range(count)]
            self._all = [os.open(name, flags, 0o666) for name in names]
        self._free = list(self._all)

    def take(self, wanted: int) -> Sequence[int]:
        """As many as are free, `wanted` at most; what is returned is given back as it is."""
        if not self._shared:
            return [-1] * wanted
        taken: List[int] = []
        for slot in list(self._free):
            if len(taken) == wanted:
                break
            if _lock(slot):
                self._free.remove(slot)
                taken.append(slot)
        return taken

    def give_back(self, slots: Sequence[int]) -> None:
        """Others may have them."""
        if self._shared:
            for slot in slots:
                fcntl.flock(slot, fcntl.LOCK_UN)
            self._free = sorted((*self._free, *slots))

    def close(self) -> None:
        """None is held any more; no more can be taken."""
        for slot in self._all:
            os.close(slot)
        self._all, self._free = [], []


def _lock(slot: int) -> bool:
    try:
        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
