"""Against markdown-it, which the renderers of notes and diaries agree with in what is markup."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from canopy_search.dashboards.formatting.markdown import code, escaped, table

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
MARKUP = st.text(st.sampled_from("ab1 \\`*_[]()<>&|~#@:/!.-+=$\n\t"), max_size=30)


def inline(text: str) -> list[tuple[str, str]]:
    """Type and content of all that a paragraph consists of."""
    tokens = READER.parse(text)
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"}, text
    return [(part.type, part.content) for t in tokens for part in t.children or []]


@given(MARKUP)
def test_a_plain_text_is_shown_as_it_is(text: str) -> None:
    shown = inline(f"Trial {escaped(text)}")
    assert {kind for kind, _ in shown} <= {"text", "text_special"}
    assert "".join(content for _, content in shown) == f"Trial {' '.join(text.split())}".strip()


@given(MARKUP)
def test_a_paragraph_that_is_a_plain_text_stays_one(text: str) -> None:
    words = " ".join(text.split())
    assert "".join(content for _, content in inline(escaped(text))) == words


@pytest.mark.parametrize("address", ["https://evil.org", "www.evil.org", "me@evil.org"])
def test_no_bare_address_becomes_a_link(address: str) -> None:
    shown = escaped(address)
    assert all(sign not in shown for sign in ("https://", "www.", "me@"))


@given(MARKUP.filter(str.strip))
def test_code_is_shown_as_it_is(text: str) -> None:
    assert inline(code(text)) == [("code_inline", " ".join(text.split()))]


@given(st.lists(st.tuples(MARKUP, MARKUP), max_size=3))
def test_no_cell_of_a_table_becomes_another_cell(rows: list[tuple[str, str]]) -> None:
    written = table(("name", "value"), [tuple(map(escaped, row)) for row in rows])
    tokens = READER.parse(written)
    cells = [b.children for a, b in pairwise(tokens) if a.type == "td_open"]
    shown = ["".join(part.content for part in cell or []) for cell in cells]
    assert shown == [" ".join(text.split()) for row in rows for text in row]
