from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from wheelbuild import errors
from wheelbuild.errors import FarmError

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "exit-codes.md"
CLASSES = [
    one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, FarmError)
]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_each_error_is_on_the_page_with_its_code(error: type[FarmError]) -> None:
    rows = re.findall(r"^\| (\d) \| .+ \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    codes = [int(code) for code, names in rows if error.__name__ in re.split(r", ", names)]
    assert codes == [error.exit_code]


def test_the_tree_in_the_text_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for error in CLASSES:
        assert error.__name__ in errors.__doc__, error


def test_each_kind_has_a_code_of_its_own() -> None:
    kinds = (FarmError, errors.InputError, errors.StepError)
    assert sorted({kind.exit_code for kind in kinds} | {errors.EXIT_DONE}) == [0, 1, 2, 3]
