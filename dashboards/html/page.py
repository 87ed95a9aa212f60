"""A self-contained HTML page: its parts, and the template that renders them."""

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
# Characters that end a script element, or a line of it, inside a JSON string.
_UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Fact:
    """One of the key figures at the top of a page.

    Attributes:
        name: what the figure is.
        value: in a few words.
        note: its context.
    """

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Key:
    """The meaning of a colour or a marker in a figure.

    Attributes:
        name: the meaning.
        colour: CSS colour of the marker; None for the colour of the text.
        mark: a character that looks like the marker.
    """

    name: str
    colour: str | None = None
    mark: str = "●"


@dataclass(frozen=True)
class Chart:
    """One or more figures, and the sentence that says what they show.

    Attributes:
        key: an identifier, unique on the page.
        title: of a few words.
        sentence: computed from the data; it replaces the figure for readers who cannot see it.
        figures: side by side if there is room; empty if the sentence says why.
        height_px: of each figure.
        legend: shared by all figures, which then have none of their own.
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
        name: the heading.
        is_number: whether its cells have numeric values to sort by.
        is_choice: whether it has few different texts, which can filter rows.
    """

    name: str
    is_number: bool = False
    is_choice: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: the visible text.
        value: a number to sort by; None sorts last.
    """

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by every column and, optionally, filtered.

    Attributes:
        key: an identifier, unique on the page.
        caption: what the rows are.
        columns: the headings.
        rows: a cell for each column; the first one names the row.
        has_filter: whether rows can be filtered.
    """

    key: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    has_filter: bool = False

    def choices(self) -> list[tuple[int, Column, list[str]]]:
        """Returns the columns that can filter rows: index, column, and its texts."""
        chosen = []
        for index, column in enumerate(self.columns):
            texts = list(dict.fromkeys(row[index].text for row in self.rows))
            if column.is_choice and len(texts) > 1:
                chosen.append((index, column, texts))
        return chosen


@dataclass(frozen=True)
class Picture:
    """A small image.

    Attributes:
        address: a data URL.
        name: of the image.
        note: what belongs to it.
    """

    address: str
    name: str
    note: str


@dataclass(frozen=True)
class Gallery:
    """Some pictures with a common heading.

    Attributes:
        title: what they have in common.
        note: how many there are, for example.
        pictures: in order.
    """

    title: str
    note: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Section:
    """A part of a page with its own heading.

    Attributes:
        key: an identifier, unique on the page.
        title: of a few words.
        paragraphs: plain text.
        charts: below the paragraphs.
        tables: below the charts.
        galleries: below the tables.
    """

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    galleries: Sequence[Gallery] = ()


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        kicker: the kind of page and its subject.
        title: the answer, in one sentence.
        lead: the context of the answer, one paragraph each.
        facts: the key figures.
        sections: in order.
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
    """Returns a page as one HTML file; markup in its texts is escaped."""
    template = _environment().get_template("page.html")
    return template.render(
        page=page,
        css=Markup(_asset("page.css")),  # noqa: S704 - our own file
        js=Markup(_asset("page.js")),  # noqa: S704 - our own file
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
    """Returns plotly.js as a zlib stream in base64: two fifths of its size."""
    script = files(plotly).joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(zlib.compress(script, 9)).decode("ascii")


def _tied(text: str) -> str:
    """Returns a text with no-break spaces between numbers and units."""
    return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text)


def _figure_json(chart: Chart, figure: Figure) -> Markup:
    """Returns a figure as JSON that is safe inside a script element."""
    document: dict[str, Any] = json.loads(figure.to_json())
    if chart.legend:
        document["layout"]["showlegend"] = False
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(_UNSAFE))  # noqa: S704 - no character that ends the element is left
