"""The best AP over time, as an SVG that is light or dark as the reader's system is."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, quantiles

from benchmarks.peers.table import Compared

WIDTH, HEIGHT = 900, 470
LEFT, RIGHT, TOP, BOTTOM = 62, 290, 64, 48
STEPS = 200
TICKS_S = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
AP_STEP = 0.01
AP_STEPS = 5
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
.paper { fill: #ffffff }
@media (prefers-color-scheme: dark) {
 text { fill: #a0a6ad } .title { fill: #e6e8ea } .grid { stroke: #3a3f45 }
 .paper { fill: #15191d }
}
"""


@dataclass(frozen=True)
class _Scale:
    """Seconds, on a logarithmic axis, and AP → pixels."""

    least_s: float
    most_s: float
    highest_ap: float

    def x(self, at_s: float) -> float:
        share = math.log(max(at_s, self.least_s) / self.least_s)
        return LEFT + (WIDTH - LEFT - RIGHT) * share / math.log(self.most_s / self.least_s)

    def y(self, ap: float) -> float:
        lowest = self.highest_ap - AP_STEP * AP_STEPS
        share = max(ap - lowest, 0) / (AP_STEP * AP_STEPS)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    @property
    def times(self) -> list[float]:
        """Seconds at which lines may bend."""
        span = self.most_s / self.least_s
        return [self.least_s * span ** (step / STEPS) for step in range(STEPS + 1)]


def picture(compared: Sequence[Compared]) -> str:
    """Draws each peer's median over its seeds, with the quartiles of Canopy and of plain Optuna.

    Only trials with all their epochs count, and peers with one worker. A line begins where half of
    the searches have such a trial, and ends, with a dot, when its searches do in the mean.

    Args:
        compared: those of `LINES` are drawn; two seeds at least.
    """
    drawn = sorted(
        (each for each in compared if each.peer.key in LINES), key=lambda each: mean(each.finish_s)
    )
    first_s = min(
        run.improvements[0][0] for each in drawn for run in each.runs.values() if run.improvements
    )
    best = max(run.best_ap or 0.0 for each in drawn for run in each.runs.values())
    scale = _Scale(
        least_s=max((tick for tick in TICKS_S if tick <= first_s), default=TICKS_S[0]),
        most_s=1.1 * max(mean(each.finish_s) for each in drawn),
        highest_ap=math.ceil(best / AP_STEP) * AP_STEP,
    )
    parts = _axes(scale, len(drawn[0].runs))
    courses = {each.peer.key: _course(each, scale) for each in drawn}
    parts += [_band(scale, courses[key], LINES[key][0]) for key in BANDS if key in courses]
    parts += [_line(scale, courses[each.peer.key], *LINES[each.peer.key]) for each in drawn[::-1]]
    parts += [_legend(row, each) for row, each in enumerate(drawn)]
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>Best validation AP over time, Canopy and others</title>\n"
        f"<style>{STYLE}</style>\n"
        f'<rect class="paper" width="100%" height="100%"/>\n{inside}\n</svg>\n'
    )


@dataclass(frozen=True)
class _Moment:
    """The best AP of a peer's searches at one time: quartiles, 0 where there is none yet."""

    at_s: float
    low: float
    middle: float
    high: float


def _course(each: Compared, scale: _Scale) -> list[_Moment]:
    finish_s = mean(each.finish_s)
    course = []
    for at_s in [*(time for time in scale.times if time < finish_s), finish_s]:
        aps = [
            max((ap for found_s, ap in run.improvements if found_s <= at_s), default=0.0)
            for run in each.runs.values()
        ]
        low, middle, high = quantiles(aps, n=4, method="inclusive")
        course.append(_Moment(at_s, low, middle, high))
    return course


def _line(scale: _Scale, course: Sequence[_Moment], colour: str, dash: str) -> str:
    shown = [(scale.x(each.at_s), scale.y(each.middle)) for each in course if each.middle > 0]
    # Between two bends a line needs no points.
    bends = [
        point
        for at, point in enumerate(shown)
        if at in {0, len(shown) - 1} or not shown[at - 1][1] == point[1] == shown[at + 1][1]
    ]
    points = " ".join(f"{x:.0f},{y:.1f}" for x, y in bends)
    end_x, end_y = bends[-1]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.2"{dashes}/>'
        f'<circle cx="{end_x:.0f}" cy="{end_y:.1f}" r="4" fill="{colour}"/>'
    )


def _band(scale: _Scale, course: Sequence[_Moment], colour: str) -> str:
    around = [(each.at_s, each.high) for each in course]
    around += [(each.at_s, each.low) for each in reversed(course)]
    points = " ".join(f"{scale.x(at_s):.0f},{scale.y(ap):.0f}" for at_s, ap in around)
    return f'<polygon points="{points}" fill="{colour}" fill-opacity=".13"/>'


def _axes(scale: _Scale, seeds: int) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<text class="title" x="{LEFT}" y="24">The best AP found, over time</text>',
        f'<text x="{LEFT}" y="44">40 trials, one worker; median of {seeds} seeds, bands are'
        " quartiles; a dot is the end of a search</text>",
    ]
    for step in range(AP_STEPS + 1):
        ap = scale.highest_ap - AP_STEP * step
        y = scale.y(ap)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = f"{ap:.2f}".removeprefix("0")
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in TICKS_S:
        if scale.least_s <= tick <= scale.most_s:
            x = f"{scale.x(tick):.0f}"
            parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>')
            parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{tick:,}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">seconds</text>')
    turned = f"translate(16 {(TOP + bottom) / 2}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">validation AP</text>')
    return parts


def _legend(row: int, each: Compared) -> str:
    colour, dash = LINES[each.peer.key]
    x, y = WIDTH - RIGHT + 18, TOP + 14 + 42 * row
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x}" x2="{x + 28}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2.2"'
        f'{dashes}/><text x="{x + 36}" y="{y + 1}">{html.escape(each.peer.title)}</text>'
        f'<text x="{x + 36}" y="{y + 17}">done after {mean(each.finish_s):.0f} s</text>'
    )
