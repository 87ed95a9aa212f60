"""A page in one HTML file that needs nothing else: its styles, script, tables and figures."""

import base64
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import plotly
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.graph_objects import Figure

_CHART_PX = 420
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|(?:s|min|h)\b))")
# What ends a script element, or a line of one, inside a JSON string.
_UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Fact:
    """One of the few things that a page says first.

    Attributes:
        name: what it is.
        value: in few words.
        note: what has to be known with it.
    """

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Key:
    """What a colour or a mark in a figure stands for.

    Attributes:
        name: what it stands for.
        colour: of the mark, as CSS has it; None for that of the text.
        mark: a letter that looks like it.
    """

    name: str
    colour: str | None = None
    mark: str = "●"


@dataclass(frozen=True)
class Chart:
    """Figures that show one thing, and the sentence that says what they show and mean.

    Attributes:
        key: an identifier, unique on the page.
        title: of a few words.
        sentence: written from the data; it is what a person who does not see the figure has.
        figures: side by side where there is room; none where the sentence says why.
        height_px: of each figure.
        legend: of all its figures, which then show none themselves.
    """

    key: str
    title: str
    sentence: str
    figures: Sequence[Figure] = ()
    height_px: int = _CHART_PX
    legend: Sequence[Key] = ()


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        is_number: whether its cells have values to be sorted by.
        is_choice: whether it holds few different texts, by which rows can be chosen.
    """

    name: str
    is_number: bool = False
    is_choice: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: as it is shown.
        value: of a number, to sort by; None sorts last.
    """

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by every column and, if wanted, filtered.

    Attributes:
        key: an identifier, unique on the page.
        caption: what its rows are.
        columns: its headings.
        rows: a cell for each column; the first one names the row.
        has_filter: whether rows can be chosen.
    """

    key: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    has_filter: bool = False

    def choices(self) -> list[tuple[int, Column, list[str]]]:
        """Returns the columns by which rows can be chosen, and what there is to choose."""
        chosen = []
        for index, column in enumerate(self.columns):
            texts = list(dict.fromkeys(row[index].text for row in self.rows))
            if column.is_choice and len(texts) > 1:
                chosen.append((index, column, texts))
        return chosen


@dataclass(frozen=True)
class Section:
    """A part of a page, with a heading of its own.

    Attributes:
        key: an identifier, unique on the page.
        title: of a few words.
        paragraphs: of plain text.
        charts: below them.
        tables: below these.
    """

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        kicker: what kind of page it is, and of what.
        title: the answer, in one sentence.
        lead: what has to be said with it, a paragraph each.
        facts: the few figures that matter.
        sections: in their order.
        colophon: how and when it was made.
    """

    kicker: str
    title: str
    lead: Sequence[str]
    facts: Sequence[Fact]
    sections: Sequence[Section]
    colophon: str

    @property
    def has_figures(self) -> bool:
        """Whether plotly.js is needed."""
        return any(chart.figures for section in self.sections for chart in section.charts)


def page_html(page: Page) -> str:
    """Returns a page as one HTML file. Every text of it is plain: markup in it is shown."""
    template = _environment().get_template("page.html")
    return template.render(
        page=page,
        css=Markup(_asset("page.css")),  # noqa: S704 - our own file
        js=Markup(_asset("page.js")),  # noqa: S704 - likewise
        plotly=Markup(_packed_plotly()) if page.has_figures else "",  # noqa: S704 - base64
        json=_figure_json,
        tied=_tied,
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _packed_plotly() -> str:
    """Returns plotly.js as base64 of a zlib stream: two fifths of its size."""
    script = files(plotly).joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(zlib.compress(script, 9)).decode("ascii")


def _tied(text: str) -> str:
    """Returns a text whose numbers stay on one line with their units."""
    return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text)


def _figure_json(chart: Chart, figure: Figure) -> Markup:
    """Returns a figure as JSON that can stand in a script element."""
    document: dict[str, Any] = json.loads(figure.to_json())
    if chart.legend:
        document["layout"]["showlegend"] = False
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(_UNSAFE))  # noqa: S704 - nothing that ends the element is left
