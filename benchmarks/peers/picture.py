"""The best AP over time, as an SVG that is light or dark as the reader's system is."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from benchmarks.peers.summary import SearchRun
from benchmarks.peers.table import Compared

WIDTH, HEIGHT = 860, 470
LEFT, RIGHT, TOP, BOTTOM = 62, 250, 62, 48
STEPS = 240
LOWEST_AP = 0.30
# Peer → colour, dash. Apart for people who see few colours, and readable on white and on black.
LINES = {
    "canopy": ("#2a78c2", ""),
    "plain": ("#d1570a", ""),
    "halving": ("#12956f", "7 4"),
    "ray": ("#a45fa8", "2 3"),
    "syne-tune-promotion-1": ("#a67c00", "10 3 2 3"),
    "random": ("#7d838b", "4 4"),
}
BANDS = ("canopy", "plain")
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #595f66 }
.title { font-size: 17px; font-weight: 600; fill: #24292f }
.grid { stroke: #dcdad4 }
@media (prefers-color-scheme: dark) {
 text { fill: #a0a6ad } .title { fill: #e6e8ea } .grid { stroke: #3a3f45 }
}
"""


@dataclass(frozen=True)
class _Scale:
    """Seconds and AP → pixels."""

    most_s: float
    highest_ap: float

    def x(self, at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at_s / self.most_s

    def y(self, ap: float) -> float:
        share = (max(ap, LOWEST_AP) - LOWEST_AP) / (self.highest_ap - LOWEST_AP)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def picture(compared: Sequence[Compared]) -> str:
    """Draws each peer's median over its seeds, with the quartiles of Canopy and of plain Optuna.

    Only trials with all their epochs count, and peers with one worker.

    Args:
        compared: those of `LINES` are drawn; two seeds at least.
    """
    drawn = [each for each in compared if each.peer.key in LINES]
    seeds = len(drawn[0].runs)
    most_s = _round_up(max(max(each.finish_s) for each in drawn))
    best = max(run.best_ap or 0.0 for each in drawn for run in each.runs.values())
    scale = _Scale(most_s, math.ceil(best * 50) / 50)
    times = [most_s * step / STEPS for step in range(STEPS + 1)]
    parts = [*_axes(scale, seeds)]
    courses = {each.peer.key: _course(list(each.runs.values()), times) for each in drawn}
    for key in BANDS:
        if key in courses:
            parts.append(_band(scale, times, courses[key], LINES[key][0]))
    for each in reversed(drawn):
        colour, dash = LINES[each.peer.key]
        parts.append(_line(scale, times, courses[each.peer.key], colour, dash))
    sooner = sorted(drawn, key=lambda each: sum(each.finish_s))
    parts += [_legend(row, each) for row, each in enumerate(sooner)]
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>Best validation AP over time, Canopy and others</title>\n"
        f"<style>{STYLE}</style>\n{inside}\n</svg>\n"
    )


def _course(runs: Sequence[SearchRun], times: Sequence[float]) -> list[tuple[float, float, float]]:
    """Returns the lower quartile, median and upper quartile of the best AP at each time."""
    course = []
    for at_s in times:
        aps = [
            max((ap for found_s, ap in run.improvements if found_s <= at_s), default=0.0)
            for run in runs
        ]
        low, middle, high = quantiles(aps, n=4, method="inclusive")
        course.append((low, middle, high))
    return course


def _line(
    scale: _Scale,
    times: Sequence[float],
    course: Sequence[tuple[float, float, float]],
    colour: str,
    dash: str,
) -> str:
    points = " ".join(
        f"{scale.x(at_s):.1f},{scale.y(middle):.1f}"
        for at_s, (_, middle, _) in zip(times, course, strict=True)
    )
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.2"{dashes}/>'


def _band(
    scale: _Scale,
    times: Sequence[float],
    course: Sequence[tuple[float, float, float]],
    colour: str,
) -> str:
    upper = [(at_s, high) for at_s, (_, _, high) in zip(times, course, strict=True)]
    lower = [(at_s, low) for at_s, (low, _, _) in zip(times, course, strict=True)]
    around = [*upper, *reversed(lower)]
    points = " ".join(f"{scale.x(at_s):.1f},{scale.y(ap):.1f}" for at_s, ap in around)
    return f'<polygon points="{points}" fill="{colour}" fill-opacity=".14"/>'


def _axes(scale: _Scale, seeds: int) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<text class="title" x="{LEFT}" y="24">Best AP over time: 40 trials, one worker</text>',
        f'<text x="{LEFT}" y="44">median of {seeds} seeds (bands: quartiles); a line ends its'
        " search at the time in the legend</text>",
    ]
    for step in range(6):
        ap = LOWEST_AP + (scale.highest_ap - LOWEST_AP) * step / 5
        y = scale.y(ap)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = f"{ap:.2f}".removeprefix("0")
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        at_s = scale.most_s * step / 5
        x = scale.x(at_s)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{at_s:.0f}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">seconds</text>')
    turned = f"translate(16 {(TOP + bottom) / 2}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">validation AP</text>')
    return parts


def _legend(row: int, each: Compared) -> str:
    colour, dash = LINES[each.peer.key]
    x, y = WIDTH - RIGHT + 18, TOP + 14 + 42 * row
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    finish_s = sum(each.finish_s) / len(each.finish_s)
    return (
        f'<line x1="{x}" x2="{x + 28}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2.2"'
        f'{dashes}/><text x="{x + 36}" y="{y + 1}">{html.escape(each.peer.title)}</text>'
        f'<text x="{x + 36}" y="{y + 17}">done after {finish_s:.0f} s</text>'
    )


def _round_up(seconds: float) -> float:
    step = 10.0 ** math.floor(math.log10(seconds)) / 2
    return step * math.ceil(seconds / step)
