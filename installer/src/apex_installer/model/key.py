"""The key names one build. One function makes it, for index, caches and receipts.

A key is compared only with another build's key, never with an environment: what *fits* an
environment is the question of `pick`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Tuple

from apex_installer.values import asdict, dataclass


@dataclass(frozen=True)
class BuildInputs:
    """All that decides what a build makes."""

    python: str
    """Interpreter tag: `cp310`."""
    torch: str
    """The exact version, local part included: `2.4.0+cu121`."""
    torch_git: str
    """The git hash that `torch/version.py` states."""
    cuda: str
    """`12.1`."""
    cxx11_abi: bool
    modules: Tuple[str, ...]
    architectures: str
    """The text form of `Architectures`."""
    recipe_digest: str
    """sha256 over what this cell's build reads of the recipe; see the farm's `recipe`."""

    @property
    def key(self) -> str:
        """64 hex digits; equal inputs give equal keys, whatever the order of the modules."""
        inputs = {**asdict(self), "modules": sorted(self.modules)}
        text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
