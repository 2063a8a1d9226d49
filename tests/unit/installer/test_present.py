"""What becomes of an Apex that is there already."""

from dataclasses import replace

import pytest

from apex_installer.present import Present, Verdict, decide

FITS = Present("apex", "0.1", "pip", replaceable=True, faults=(), where="/site")
BROKEN = replace(FITS, faults=("has no module fused_layer_norm_cuda",))
EDITABLE = replace(BROKEN, replaceable=False)
OURS = replace(FITS, owner="ours")


@pytest.mark.parametrize(
    ("present", "keep", "replace_it", "verdict"),
    [
        (None, False, False, Verdict.NOTHING_THERE),
        (OURS, False, False, Verdict.STANDS),
        (replace(OURS, faults=("torch changed",)), False, False, Verdict.REPLACE),
        (FITS, False, False, Verdict.STANDS),
        (FITS, False, True, Verdict.PUT_ASIDE),
        (BROKEN, False, False, Verdict.PUT_ASIDE),
        (BROKEN, True, False, Verdict.LEAVE),
        (EDITABLE, False, False, Verdict.LEAVE),
        (EDITABLE, False, True, Verdict.PUT_ASIDE),
    ],
)
def test_verdicts(
    present: Present | None, *, keep: bool, replace_it: bool, verdict: Verdict
) -> None:
    decision = decide(present, keep_foreign=keep, replace_foreign=replace_it)
    assert decision.verdict is verdict


def test_the_sentence_says_what_is_wrong_and_what_to_do() -> None:
    why = decide(EDITABLE, keep_foreign=False, replace_foreign=False).why
    assert "has no module fused_layer_norm_cuda" in why
    assert "--replace-foreign" in why
