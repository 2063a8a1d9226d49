from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wheelbuild.document import Document, find_lines, parse_document, place_text, raise_faults
from wheelbuild.errors import DataError

TEXT = '''\
# a comment
title = "x"  # [not.a.header]

[owner]
name = "a"
"dotted.key" = 1
text = """
[fake]
key = 1
"""
list = [
  "[fake]",
  2,
]

[[parts]]
size = 1

[[parts.pieces]]
deep = { a = 1 }

[[parts]]
size = 2

[[parts.pieces]]
deep = 1
[[parts.pieces]]
a.b = 3
'''


def test_every_key_has_the_line_of_its_statement() -> None:
    known = find_lines(TEXT)
    assert known["title",] == 2
    assert known["owner",] == 4
    assert known["owner", "dotted.key"] == 6
    assert known["owner", "text"] == 7
    assert known["owner", "list", 1] == 11
    assert known["parts", 0, "size"] == 17
    assert known["parts", 0, "pieces", 0, "deep", "a"] == 20
    assert known["parts", 1] == 22
    assert known["parts", 1, "pieces", 0, "deep"] == 26
    assert known["parts", 1, "pieces", 1, "a", "b"] == 28
    assert not any("fake" in place for place in known)


@given(st.lists(st.sampled_from(["", "# c", "  "]), max_size=5), st.integers(1, 9))
def test_blank_and_comment_lines_are_counted(before: list[str], value: int) -> None:
    text = "\n".join([*before, f"key = {value}"])
    assert find_lines(text)["key",] == len(before) + 1


def test_no_toml_is_one_line_with_its_number() -> None:
    with pytest.raises(DataError) as caught:
        parse_document("a = 1\nb = \n", file="x.toml")
    assert str(caught.value).startswith("x.toml:2: not TOML: ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def read(text: str) -> Document:
    return parse_document(text, file="x.toml")


def test_every_fault_is_said_at_once_in_the_order_of_the_file() -> None:
    document = read('number = "1"\nunknwon = 1\ntexts = ["a", 2, "a"]\nempty = []\n')
    root = document.root
    root.text("missing")
    root.texts("empty")
    root.texts("texts")
    root.number("number")
    root.text("unknown", default="")
    root.close()
    with pytest.raises(DataError) as caught:
        raise_faults([document])
    assert str(caught.value).splitlines() == [
        "x.toml:1: no 'missing': a string is wanted",
        "x.toml:1: number: a string where a whole number is wanted",
        "x.toml:2: unknwon: unknown key; near: unknown",
        "x.toml:3: texts: a number in a list of strings",
        "x.toml:3: texts: named twice: a",
        "x.toml:4: empty: is empty",
    ]


@pytest.mark.parametrize(
    ("text", "method", "said"),
    [
        ("key = true", "number", "true or false where a whole number is wanted"),
        ("key = 1", "flag", "a number where true or false is wanted"),
        ("key = -1", "number", "-1 is less than 0"),
        ("key = 0", "seconds", "0.0 is not above 0"),
        ("key = ''", "text", "is empty"),
        ("key = '12'", "version", "'12' is not a version such as 12.1"),
        ("key = 1", "tables", "a number where an array of tables, [[key]] is wanted"),
        ("key = 1", "named", "a number where tables, [key.<name>] is wanted"),
    ],
    ids=["bool", "flag", "negative", "zero", "empty", "version", "tables", "named"],
)
def test_a_value_of_another_kind_is_refused(text: str, method: str, said: str) -> None:
    document = read(text)
    getattr(document.root, method)("key")
    assert document.lines() == [f"x.toml:1: key: {said}"]


def test_an_item_that_should_be_a_table_is_refused() -> None:
    document = read("key = [1]")
    for table in document.root.tables("key"):
        table.close()
    assert document.lines() == ["x.toml:1: key[0]: a number where a table is wanted"]


def test_places_read_like_toml() -> None:
    assert place_text(("refs", 1, "a.b", "c")) == 'refs[1]."a.b".c'
