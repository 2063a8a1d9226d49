"""CUDA_VISIBLE_DEVICES: which GPUs the app will see; where that is in doubt, all of them count."""

from __future__ import annotations

import pytest

from apex_installer.model.environment import Gpu
from apex_installer.read.visible import Listing, choose_visible

A, B, C = (Gpu((9, 0), "H100", f"GPU-{letter * 8}-0000") for letter in "abc")
L4 = Gpu((8, 9), "L4", "GPU-abababab-0000")
ALIKE, MIXED = Listing((A, B, C)), Listing((A, L4, B))
MIG = "MIG-12345678-0000"
SLICED = Listing((A, L4), mig_parents={MIG: L4.uuid})

SURE = {
    "not set": (ALIKE, None, (A, B, C)),
    "a number, all alike": (ALIKE, "1", (B,)),
    "numbers, all alike": (ALIKE, "2,0", (C, A)),
    "blanks": (ALIKE, " 1 , 2 ", (B, C)),
    "one twice": (ALIKE, "1,1", (B,)),
    "what stands before a number that is none": (ALIKE, "1,7,2", (B,)),
    "what stands before -1": (ALIKE, "1,-1,2", (B,)),
    "a number with a tail": (ALIKE, "1x", (B,)),
    "a uuid": (MIXED, L4.uuid, (L4,)),
    "a uuid in short": (MIXED, "GPU-abab", (L4,)),
    "a uuid in capitals": (MIXED, L4.uuid.upper(), (L4,)),
    "uuids": (MIXED, f"{B.uuid},{L4.uuid}", (B, L4)),
    "a slice, by its own uuid": (SLICED, MIG, (L4,)),
    "a slice, by its GPU's": (SLICED, f"MIG-{A.uuid}/1/0", (A,)),
}


@pytest.mark.parametrize("name", SURE)
def test_what_is_sure_has_no_note(name: str) -> None:
    listing, text, visible = SURE[name]
    environ = {} if text is None else {"CUDA_VISIBLE_DEVICES": text}
    assert choose_visible(listing, environ) == (visible, "")


@pytest.mark.parametrize("text", ["", " ", "-1", "NoDevFiles", "nodevfiles", "3", ",0"])
def test_all_are_hidden(text: str) -> None:
    gpus, note = choose_visible(ALIKE, {"CUDA_VISIBLE_DEVICES": text})
    assert gpus == ()
    assert note == f"CUDA_VISIBLE_DEVICES={text} hides every GPU"


@pytest.mark.parametrize("order", [None, "FASTEST_FIRST"])
def test_a_number_among_differing_gpus_means_that_every_one_must_be_covered(
    order: str | None,
) -> None:
    """CUDA numbers them by speed, which nobody can tell but CUDA."""
    environ = {"CUDA_VISIBLE_DEVICES": "1"}
    gpus, note = choose_visible(
        MIXED, {**environ, "CUDA_DEVICE_ORDER": order} if order else environ
    )
    assert gpus == MIXED.gpus
    assert note == (
        "CUDA_VISIBLE_DEVICES=1 numbers differing GPUs by speed: every GPU counts; "
        "CUDA_DEVICE_ORDER=PCI_BUS_ID makes it plain"
    )


@pytest.mark.parametrize("order", ["PCI_BUS_ID", "pci_bus_id"])
def test_in_pci_order_a_number_is_plain(order: str) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": order}
    assert choose_visible(MIXED, environ) == ((L4,), "")


@pytest.mark.parametrize(
    "text", ["GPU-ffff", "GPU-a", "MIG-99999999-0000", "all", "0,GPU-ffff", "0,,1"]
)
def test_what_is_not_to_be_found_leaves_nobody_out(text: str) -> None:
    """Of no GPU, of several, of no known slice, or a word that CUDA does not know."""
    listing = Listing((A, Gpu((8, 0), "A100", "GPU-aaaa1111-0000")))
    environ = {"CUDA_VISIBLE_DEVICES": text, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    gpus, note = choose_visible(listing, environ)
    assert gpus == listing.gpus
    assert note.startswith(f"CUDA_VISIBLE_DEVICES={text} names ")
    assert note.endswith("which is not to be found: every GPU counts")


def test_where_there_is_none_there_is_nothing_to_say() -> None:
    assert choose_visible(Listing(()), {"CUDA_VISIBLE_DEVICES": "0"}) == ((), "")
