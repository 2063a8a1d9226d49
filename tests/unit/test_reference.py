"""The reference pages are what the code says, and the flags are a closed list."""

import pytest

from apex_installer.cli import build_parser
from wheelbuild.reference import DOCS, parse_fields, render_pages

FLAGS = """
--index-url --pypi-url --cuda-mirror --allow-http --python --target --cache-dir --require --at-least
--offline --dry-run --gpu --deadline --compile-timeout --toolkit --toolkits --source --keep-foreign
--replace-foreign --run --json --quiet --verbose --version --help
""".split()  # noqa: SIM905 - reads as the command line does


@pytest.mark.parametrize("name", render_pages())
def test_each_page_is_what_the_code_says(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == render_pages()[name], "run: python -m wheelbuild.reference"


def test_the_list_of_flags_is_closed() -> None:
    actions = build_parser()._actions
    long = [flag for action in actions for flag in action.option_strings if flag[:2] == "--"]
    assert sorted(long) == sorted(FLAGS)


def test_attribute_docstrings_become_meanings() -> None:
    source = 'class A:\n    x: int\n    """Of\n    it."""\n    y: str = ""\n'
    assert list(parse_fields(source, "A")) == [("x", "integer", "Of it."), ("y", "string", "")]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Tuple[Refusal, ...]", "list of object"),
        ("Mapping[str, float]", "object"),
        ("Optional[Tuple[str, ...]]", "list of string or null"),
    ],
)
def test_types_are_those_of_json(kind: str, said: str) -> None:
    assert list(parse_fields(f"class A:\n    x: {kind}\n", "A")) == [("x", said, "")]
