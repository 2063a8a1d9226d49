from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_installer.put.record import Row, digest_text, format_record, parse_record

paths = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20
).filter(lambda text: text.splitlines() == [text])
rows = st.builds(
    Row,
    path=paths,
    digest=st.sampled_from(["", "sha256=abc-_"]),
    size=st.none() | st.integers(0, 10**12),
)


@given(st.lists(rows))
def test_parse_is_the_inverse_of_format(rows: list[Row]) -> None:
    assert parse_record(format_record(rows)) == tuple(rows)


@given(st.lists(rows))
def test_is_what_other_installers_read(rows: list[Row]) -> None:
    read = list(csv.reader(io.StringIO(format_record(rows))))
    assert [row[0] for row in read] == [row.path for row in rows]


@pytest.mark.parametrize("line", ["one,two", "a,b,c,d", "a,sha256=x,size", ",sha256=x,1", '"a,b,1'])
def test_names_the_line_that_is_no_row(line: str) -> None:
    with pytest.raises(ValueError, match="is not a row of RECORD"):
        parse_record(f"good,sha256=x,1\n{line}\n")


def test_a_digest_as_wheels_write_it() -> None:
    assert digest_text(bytes(32)) == "sha256=" + "A" * 43
