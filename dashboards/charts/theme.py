"""The theme of all figures: one template, one colour and one marker for each category."""

import html
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import plotly.graph_objects as go

from canopy_search.dashboards.formatting.tables import score_text
from canopy_search.dashboards.formatting.values import duration_text, params_text, value_text
from canopy_search.dashboards.html.page import Key
from canopy_search.dashboards.study.model import StudyData, TrialData

# Each has a contrast of at least 3 to light and dark pages, and they are distinct for colour-blind
# readers; each colour is paired with a marker, a dash or a word.
COLOURS = ("#2a78c2", "#d1570a", "#12956f", "#a45fa8", "#a67c00", "#cf4766", "#4b8ea6", "#7c7a3c")
ACCENT = COLOURS[0]
QUIET = "#7d838b"
FAINT = "rgba(125,131,139,.5)"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "pentagon")
LETTERS = ("●", "■", "◆", "▲", "✚", "★", "⬢", "⬟")
"""Characters that look like `SYMBOLS`, for legends."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
# From nearly transparent to a full colour, for light and dark pages.
SCALE = [[0.0, "rgba(42,120,194,.05)"], [1.0, "rgba(42,120,194,.75)"]]

_COLOURED_FIRST = "backbone"
_MARKED_FIRST = "loss"
_AXIS = {
    "automargin": True,
    "showline": False,
    "zeroline": False,
    "ticks": "",
    "gridcolor": "#dcdad4",
    "title": {"standoff": 10},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"size": 13, "color": "#595f66"},
        "colorway": COLOURS,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "title": {"font": {"size": 14}, "x": 0, "xref": "paper", "xanchor": "left"},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "itemsizing": "constant",
        },
    }
)


def new_figure(x: str, y: str) -> go.Figure:
    """Returns an empty figure in Canopy's theme.

    Args:
        x: title of the horizontal axis, with its unit.
        y: title of the vertical axis, with its unit.
    """
    titles = {"xaxis_title_text": plain(x), "yaxis_title_text": plain(y)}
    return go.Figure().update_layout(template=TEMPLATE, **titles)


def plain(text: object) -> str:
    """Returns a text with its tags escaped, since Plotly interprets some of them."""
    return html.escape(str(text), quote=False)


def ink_on(colour: str) -> str:
    """Returns black or white, whichever has more contrast on ``#rrggbb``.

    References:
        WCAG 2.2, relative luminance and contrast ratio.
    """
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


@dataclass(frozen=True)
class Marks:
    """The colour and the marker of every trial of a study.

    Attributes:
        data: the study.
        colours: value of the parameter shown by colour → colour.
        symbols: value of the parameter shown by marker → Plotly's symbol.
        coloured: name of the parameter shown by colour; None if there is none.
        marked: name of the parameter shown by marker; None if there is none.
    """

    data: StudyData
    colours: Mapping[Any, str]
    symbols: Mapping[Any, str]
    coloured: str | None = None
    marked: str | None = None

    def colour(self, trial: TrialData) -> str:
        """Returns the colour of a trial."""
        return self.colours.get(self.colour_value(trial), QUIET if self.coloured else ACCENT)

    def symbol(self, trial: TrialData) -> str:
        """Returns the marker of a trial, hollow if it is not complete."""
        hollow = "" if trial.is_complete else "-open"
        return self.symbols.get(self.mark_value(trial), SYMBOLS[0]) + hollow

    def colour_value(self, trial: TrialData) -> Any:
        """Returns the value that decides a trial's colour."""
        return trial.params.get(self.coloured) if self.coloured else None

    def mark_value(self, trial: TrialData) -> Any:
        """Returns the value that decides a trial's marker."""
        return trial.params.get(self.marked) if self.marked else None

    def by_colour(self, trials: Iterable[TrialData]) -> list[tuple[str, str, list[TrialData]]]:
        """Returns name, colour and trials of every non-empty group with one colour.

        The name comes from the study and is not escaped.
        """
        groups: dict[Any, list[TrialData]] = {value: [] for value in self.colours}
        for trial in trials:
            groups.setdefault(self.colour_value(trial), []).append(trial)
        return [
            (_category(value), self.colour(members[0]), members)
            for value, members in groups.items()
            if members
        ]

    def legend(self, *, with_marks: bool = True) -> list[Key]:
        """Returns the legend: colours, and optionally markers, hollow ones included."""
        scored = self.data.scored
        keys = [Key(name, colour) for name, colour, _ in self.by_colour(scored)]
        keys = keys if self.coloured else []
        if not with_marks:
            return keys
        used = {self.mark_value(trial) for trial in scored} if self.marked else set()
        for value, symbol in self.symbols.items():
            if value in used and len(used) > 1:
                keys.append(Key(value_text(value), QUIET, LETTERS[SYMBOLS.index(symbol)]))
        if any(not trial.is_complete for trial in scored):
            keys.append(Key("hollow: not complete", QUIET, "○"))
        return keys

    def add_trials(
        self,
        drawn: go.Figure,
        trials: Iterable[TrialData],
        x: Callable[[TrialData], float],
        chosen: Container[int] | None = None,
    ) -> None:
        """Draws trials as markers at their scores.

        Args:
            drawn: the figure.
            trials: those that have a score.
            x: returns the position of a trial.
            chosen: numbers of the trials to draw larger than the others, if some are chosen.
        """
        for name, colour, members in self.by_colour(trials):
            is_chosen = [chosen is not None and trial.number in chosen for trial in members]
            drawn.add_scatter(
                x=[x(trial) for trial in members],
                y=[trial.score for trial in members],
                mode="markers",
                name=plain(name),
                marker={
                    "color": colour,
                    "symbol": [self.symbol(trial) for trial in members],
                    "size": [13 if each else 8 for each in is_chosen],
                    "opacity": [1.0 if each or chosen is None else 0.6 for each in is_chosen],
                    "line": {"width": 1.5 if chosen is None else 0, "color": colour},
                },
                text=[trial_text(self.data, trial) for trial in members],
                hovertemplate="%{text}<extra></extra>",
            )


def marks_of(data: StudyData) -> Marks:
    """Chooses the categories shown by colour and by marker, the same for every chart."""
    order = {_COLOURED_FIRST: -2, _MARKED_FIRST: -1}
    names = sorted(data.categorical, key=lambda name: order.get(name, 0))
    coloured, marked = [*names[:2], None, None][:2]
    colours, symbols = _assigned(data, coloured, COLOURS), _assigned(data, marked, SYMBOLS)
    return Marks(data, colours, symbols, coloured, marked)


def trial_text(data: StudyData, trial: TrialData) -> str:
    """Returns the hover text of a trial, as Plotly's markup with escaped names."""
    epochs = f" after {data.step} {trial.epochs}" if trial.epochs else ""
    took = "" if trial.duration_s is None else f" · {duration_text(trial.duration_s)}"
    score = f"{plain(data.metric)} {score_text(data, trial.score)}{epochs}"
    setting = plain(params_text(trial.params))
    return f"trial {trial.number} · {setting}<br>{score} · {trial.state.lower()}{took}"


def _assigned(data: StudyData, name: str | None, styles: Sequence[str]) -> dict[Any, str]:
    """Assigns one of `styles` to each value of a parameter; after the last, they repeat."""
    return {} if name is None else dict(zip(data.categorical[name], cycle(styles), strict=False))


def _category(value: Any) -> str:
    return "trials" if value is None else value_text(value)
