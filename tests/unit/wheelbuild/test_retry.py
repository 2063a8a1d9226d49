from __future__ import annotations

import pytest

from wheelbuild import retry
from wheelbuild.errors import BuildError, CellError, FarmError
from wheelbuild.retry import is_network, with_retries

NETWORK = [
    "pip ended with 1: ReadTimeoutError: Read timed out.",
    "fatal: unable to access 'https://x/': Could not resolve host: x",
    "fatal: unable to access 'https://x/': The requested URL returned error: 503",
    "ERROR: HTTP error 502 while getting https://x/y.whl",
    "podman ended with 125: received unexpected HTTP status: 504 Gateway Time-out",
    "('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))",
]
OTHER = [
    "norm.cpp:500:3: error: no such name",
    "compile: the time limit ran out with 3 of 5 steps done",
    "pip was ended: not done after 60 s",
    "ERROR: No matching distribution found for torch==9.9",
    "ERROR: HTTP error 404 while getting https://x/y.whl",
]


@pytest.mark.parametrize("text", NETWORK)
def test_the_networks_fault(text: str) -> None:
    assert is_network(text)


@pytest.mark.parametrize("text", OTHER)
def test_not_the_networks_fault(text: str) -> None:
    assert not is_network(text)


class Step:
    def __init__(self, *errors: FarmError) -> None:
        self.errors = list(errors)
        self.tries = 0

    def __call__(self) -> str:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))


def test_the_network_is_tried_three_times() -> None:
    step = Step(CellError(NETWORK[0]), CellError(NETWORK[1]))
    assert with_retries(step, what="cell") == "done"
    assert step.tries == 3
    step = Step(*[CellError(NETWORK[0])] * 9)
    with pytest.raises(CellError):
        with_retries(step, what="cell")
    assert step.tries == 3


def test_a_compile_that_failed_is_not_tried_again() -> None:
    step = Step(BuildError(OTHER[0]))
    with pytest.raises(BuildError):
        with_retries(step, what="cell")
    assert step.tries == 1
