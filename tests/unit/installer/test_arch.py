"""Architectures: text form, and which GPU runs what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_installer.errors import UsageError
from apex_installer.model.arch import Architectures, parse_version, version_text

ARCHES = st.sampled_from(["7.5", "8.0", "8.6", "8.9", "9.0", "9.0a", "10.0", "10.0f", "12.0"])


@given(st.sets(ARCHES), st.sets(ARCHES, min_size=1))
def test_text_parses_back(machine_code: set[str], ptx: set[str]) -> None:
    held = Architectures.of(machine_code, ptx)
    assert Architectures.parse(held.text) == held


def test_torchs_own_list_is_read_and_sorted() -> None:
    assert Architectures.parse("9.0+PTX 8.6;8.0").text == "8.0;8.6;9.0+PTX"


@pytest.mark.parametrize("text", ["", "sm_90", "9", "9.0x", "9.0+ptx"])
def test_what_is_no_architecture_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"archite|such as"):
        Architectures.parse(text)


@pytest.mark.parametrize(
    ("held", "gpu", "how"),
    [
        ("8.0", (8, 6), "machine-code"),
        ("8.6", (8, 0), None),
        ("9.0", (10, 0), None),
        ("9.0+PTX", (10, 0), "ptx"),
        ("9.0a", (9, 0), "machine-code"),
        ("9.0a-PTX", (10, 0), None),
        ("10.0f", (10, 3), "machine-code"),
        ("10.0f-PTX", (10, 3), "ptx"),
        ("10.0f-PTX", (12, 0), None),
        ("9.0-PTX", (8, 9), None),
    ],
)
def test_which_gpu_runs_what(held: str, gpu: tuple[int, int], how: str | None) -> None:
    found = Architectures.parse(held).how_it_runs(gpu, driver_cuda=(13, 0), made_by=(13, 0))
    assert found == how


def test_ptx_needs_a_driver_as_new_as_the_compiler() -> None:
    held = Architectures.parse("9.0+PTX")
    assert held.how_it_runs((10, 0), driver_cuda=(12, 8), made_by=(12, 9)) is None
    assert held.how_it_runs((10, 0), driver_cuda=(12, 9), made_by=(12, 9)) == "ptx"
    assert held.how_it_runs((10, 0), driver_cuda=None, made_by=(12, 9)) == "ptx"
    assert held.how_it_runs((9, 0), driver_cuda=(12, 0), made_by=(12, 9)) == "machine-code"


def test_versions() -> None:
    assert parse_version("12.1.105") == (12, 1)
    assert version_text((12, 1)) == "12.1"
    with pytest.raises(UsageError, match=r"12\.1"):
        parse_version("twelve")
