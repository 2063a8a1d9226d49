"""CUDA_VISIBLE_DEVICES, applied to a listing of all GPUs. Pure.

Source: CUDA C++ Programming Guide, "CUDA Environment Variables". What cannot be told for sure
counts: then every GPU must be covered, and the note says why.
"""

from __future__ import annotations

import re
from typing import List, Mapping, Optional, Tuple

from apex_installer.model.arch import Version
from apex_installer.model.environment import Gpu
from apex_installer.values import dataclass, field


@dataclass(frozen=True)
class Listing:
    """All GPUs of a machine or container, in PCI order."""

    gpus: Tuple[Gpu, ...]
    driver: Optional[str] = None
    driver_cuda: Optional[Version] = None
    mig_parents: Mapping[str, str] = field(default_factory=dict)
    """`MIG-…` as named in CUDA_VISIBLE_DEVICES -> uuid of the GPU that it is a slice of."""


def choose_visible(listing: Listing, environ: Mapping[str, str]) -> Tuple[Tuple[Gpu, ...], str]:
    """The GPUs that the app sees, and a note where that could not be told for sure."""
    text = environ.get("CUDA_VISIBLE_DEVICES")
    if text is None or not listing.gpus:
        return listing.gpus, ""
    words = [word.strip() for word in text.split(",")]
    if not words[0] or words[0].lower() == "nodevfiles":
        return (), f"CUDA_VISIBLE_DEVICES={text} hides every GPU"
    alike = len({gpu.capability for gpu in listing.gpus}) == 1
    by_pci = environ.get("CUDA_DEVICE_ORDER", "").upper() == "PCI_BUS_ID"
    chosen: List[Gpu] = []
    for word in words:
        number = re.match(r"[+-]?\d+", word)
        if number and not 0 <= int(number.group()) < len(listing.gpus):
            break  # CUDA takes what stands before the first number that is none
        if number and not (alike or by_pci):
            return listing.gpus, _doubt(text, "numbers differing GPUs by speed", by_pci=True)
        found = listing.gpus[int(number.group())] if number else _by_uuid(word, listing)
        if found is None:
            return listing.gpus, _doubt(text, f"names {word}, which is not to be found")
        if found not in chosen:
            chosen.append(found)
    note = "" if chosen else f"CUDA_VISIBLE_DEVICES={text} hides every GPU"
    return tuple(chosen), note


def _by_uuid(word: str, listing: Listing) -> Optional[Gpu]:
    """`GPU-8932f937` may be shortened as long as one GPU begins so; a slice counts as its GPU."""
    if word.startswith("MIG-GPU-"):
        word = word[len("MIG-") :].partition("/")[0]
    elif word.startswith("MIG-"):
        word = listing.mig_parents.get(word, "")
    if not word.startswith("GPU-"):
        return None
    found = [gpu for gpu in listing.gpus if gpu.uuid.lower().startswith(word.lower())]
    return found[0] if len(found) == 1 else None


def _doubt(text: str, why: str, *, by_pci: bool = False) -> str:
    remedy = "; CUDA_DEVICE_ORDER=PCI_BUS_ID makes it plain" if by_pci else ""
    return f"CUDA_VISIBLE_DEVICES={text} {why}: every GPU counts{remedy}"
