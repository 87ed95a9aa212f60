import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy_search.filestore.csv_text import csv_text, text_of_cell


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\tb", "\rc"])
def test_text_like_a_formula_is_prefixed_and_numbers_are_not(text: str) -> None:
    [cells] = csv.reader(io.StringIO(csv_text([[text, -1, -0.5, None]]), newline=""))
    assert cells == [f"'{text}", "-1", "-0.5", ""]
    assert text_of_cell(cells[0]) == text


def test_times_are_iso_text() -> None:
    assert csv_text([[datetime(2026, 1, 2, tzinfo=UTC)]]) == "2026-01-02T00:00:00+00:00\n"


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text[:1] != "'"))
def test_text_is_read_as_it_was(text: str) -> None:
    [cells] = csv.reader(io.StringIO(csv_text([[text, "x"]]), newline=""))
    assert text_of_cell(cells[0]) == text
