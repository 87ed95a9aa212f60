"""The shell of a page: it is self-contained, and no text becomes markup."""

import base64
import re
import zlib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import plotly
import plotly.graph_objects as go
from hypothesis import given
from hypothesis import strategies as st

from canopy_search.dashboards.html.page import (
    Cell,
    Chart,
    Column,
    Fact,
    Gallery,
    Key,
    Page,
    Picture,
    Section,
    Table,
    page_html,
)

EVIL = "</script><img src=x onerror=alert(1)>\"'&<b>"


def page(text: str, *, figures: bool = True) -> Page:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name=text, text=[text, text]))
    chart = Chart("chart", text, text, [figure] if figures else [], legend=[Key(text, "#123456")])
    table = Table(
        "rows",
        text,
        [Column(text, is_number=True), Column(text, is_choice=True)],
        [[Cell(text, 1.0), Cell(text)], [Cell("2", 2.0), Cell(f"{text} too")]],
        has_filter=True,
    )
    gallery = Gallery(text, text, [Picture("data:image/webp;base64,", text, text)])
    section = Section("section", text, [text], [chart], [table], [gallery])
    return Page(text, text, [text], [Fact(text, text, text)], [section, section], text)


class Reader(HTMLParser):
    """Collects elements, attributes, and the texts in between."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in {"src", "href", "action", "data"}:
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_no_text_is_taken_for_markup() -> None:
    evil, harmless = Reader(page_html(page(EVIL))), Reader(page_html(page("harmless")))
    assert evil.tags == harmless.tags
    assert evil.texts.count(EVIL) == harmless.texts.count("harmless") > 10


@cache
def harmless_tags() -> list[str]:
    return Reader(page_html(page("harmless", figures=False))).tags


@given(st.text(min_size=1, max_size=30))
def test_any_name_leaves_the_page_whole(text: str) -> None:
    written = page_html(page(text, figures=False))
    assert Reader(written).tags == harmless_tags()


def test_a_page_refers_to_nothing_but_itself() -> None:
    reader = Reader(page_html(page("text")))
    assert {address.partition(",")[0] for address in reader.addresses} == {
        "#main",
        "#section",
        "data:",
        "data:image/webp;base64",
    }
    styles = reader.texts[reader.tags.index("style")]
    assert "url(" not in styles
    assert "@import" not in styles


def test_plotly_is_packed_and_comes_out_as_it_was() -> None:
    written = page_html(page("text"))
    packed = re.search(r'id="plotly-js">([^<]+)<', written)
    assert packed is not None
    source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    assert zlib.decompress(base64.b64decode(packed[1])) == source.read_bytes()
    assert len(written) < 2.1e6


def test_a_page_without_figures_does_without_plotly() -> None:
    assert len(page_html(page("text", figures=False))) < 50_000


def test_a_figure_s_json_is_read_back_as_it_was() -> None:
    import json

    written = page_html(page(EVIL))
    (found,) = set(re.findall(r'<script type="application/json">(.*?)</script>', written, re.S))
    assert json.loads(found)["data"][0]["name"] == EVIL


def test_only_columns_with_several_texts_offer_a_choice() -> None:
    columns = [Column("state", is_choice=True), Column("loss", is_choice=True), Column("name")]
    rows = [[Cell("pruned"), Cell("bce"), Cell("a")], [Cell("complete"), Cell("bce"), Cell("b")]]
    chosen = Table("t", "", columns, rows, has_filter=True).choices()
    assert [(index, texts) for index, _, texts in chosen] == [(0, ["pruned", "complete"])]
