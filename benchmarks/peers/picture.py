"""How far the best AP found so far is below the best of a space, over time, as an SVG.

Two spaces side by side; light or dark as the reader's system is.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from benchmarks.peers.table import Compared

PANELS = {
    "kept-plain-8": "Early epochs tell much (kept-plain-8)",
    "kept-late-8": "Slow starters tend to end best (kept-late-8)",
}
PANEL_WIDTH, HEIGHT = 400, 460
LEFT, GAP, RIGHT, TOP, BOTTOM = 62, 46, 275, 100, 56
STEPS = 160
TICKS_S = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
REGRETS = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1)
# Peer → colour, dash. Apart for people who see few colours, and readable on white and on black.
LINES = {
    "canopy": ("#2a78c2", ""),
    "plain": ("#d1570a", ""),
    "hyperband": ("#12956f", "7 4"),
    "ray": ("#a45fa8", "2 3"),
    "syne-tune-promotion-1": ("#a67c00", "10 3 2 3"),
    "random": ("#7d838b", "4 4"),
}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #595f66 }
.title { font-size: 17px; font-weight: 600; fill: #24292f }
.panel { font-weight: 600; fill: #24292f }
.grid { stroke: #dcdad4 }
.paper { fill: #ffffff }
@media (prefers-color-scheme: dark) {
 text { fill: #a0a6ad } .title, .panel { fill: #e6e8ea } .grid { stroke: #3a3f45 }
 .paper { fill: #15191d }
}
"""


@dataclass(frozen=True)
class _Panel:
    """Seconds, on a logarithmic axis, and regret → pixels.

    Attributes:
        left: of its plot.
        least_s: where the axis begins.
        most_s: where it ends.
    """

    left: float
    least_s: float
    most_s: float

    @property
    def right(self) -> float:
        """The end of its plot."""
        return self.left + PANEL_WIDTH

    def x(self, at_s: float) -> float:
        share = math.log(max(at_s, self.least_s) / self.least_s)
        return self.left + PANEL_WIDTH * share / math.log(self.most_s / self.least_s)

    @staticmethod
    def y(regret: float) -> float:
        share = min(regret, REGRETS[-1]) / REGRETS[-1]
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    @property
    def times(self) -> list[float]:
        """Seconds at which lines may bend."""
        span = self.most_s / self.least_s
        return [self.least_s * span ** (step / STEPS) for step in range(STEPS + 1)]


def picture(spaces: Mapping[str, Sequence[Compared]]) -> str:
    """Draws each peer's mean over its seeds where an epoch costs everybody the same.

    Only trials with all their epochs count. A line begins where every search has such a trial, and
    ends, with a dot, when its searches do in the mean.

    Args:
        spaces: name → its searches; `PANELS` of them, and of these the peers in `LINES`, are drawn.
    """
    parts: list[str] = []
    seeds = 0
    for place, (name, title) in enumerate(PANELS.items()):
        drawn = [each for each in spaces[name] if each.peer.key in LINES]
        seeds = len(drawn[0].runs)
        panel = _Panel(
            LEFT + place * (PANEL_WIDTH + GAP),
            least_s=max(tick for tick in TICKS_S if tick <= min(map(_first_s, drawn))),
            most_s=1.1 * max(each.finish_s for each in drawn),
        )
        parts += _axes(panel, title, has_scale=place == 0)
        parts += [_line(panel, each) for each in drawn]
    width = LEFT + len(PANELS) * (PANEL_WIDTH + GAP) + RIGHT
    parts += _legend(width - RIGHT, drawn)
    inside = "\n".join([*_heading(seeds), *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" role="img">\n'
        f"<title>Simulated: AP below the best over time, Canopy and others</title>\n"
        f"<style>{STYLE}</style>\n"
        f'<rect class="paper" width="100%" height="100%"/>\n{inside}\n</svg>\n'
    )


def _first_s(each: Compared) -> float:
    """Returns when the last of a peer's searches has its first full trial."""
    return max(
        run.improvements[0][0] if run.improvements else math.inf for run in each.runs.values()
    )


def _heading(seeds: int) -> list[str]:
    return [
        f'<text class="title" x="{LEFT}" y="26">Simulated: how far the best AP found so far is '
        "below the best of the space</text>",
        f'<text x="{LEFT}" y="47">The same training loop for everybody: an epoch of a setting costs'
        f" each search the same. 40 trials, one worker, mean of {seeds} seeds; a dot is the end."
        "</text>",
    ]


def _line(panel: _Panel, each: Compared) -> str:
    colour, dash = LINES[each.peer.key]
    first_s = _first_s(each)
    times = [first_s, *(at_s for at_s in panel.times if first_s < at_s < each.finish_s)]
    points = [(panel.x(at_s), panel.y(_regret(each, at_s))) for at_s in times]
    end = (panel.x(each.finish_s), panel.y(mean(each.regrets)))
    line = " ".join(f"{x:.0f},{y:.1f}" for x, y in [*points, end])
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.2"{dashes}/>'
        f'<circle cx="{end[0]:.0f}" cy="{end[1]:.1f}" r="4" fill="{colour}"/>'
    )


def _regret(each: Compared, at_s: float) -> float:
    """Returns the mean regret of the searches of a peer at one time, when all have found an AP."""
    return mean(
        each.best_ap[seed] - max(ap for found_s, ap in run.improvements if found_s <= at_s)
        for seed, run in each.runs.items()
    )


def _axes(panel: _Panel, title: str, *, has_scale: bool) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = [f'<text class="panel" x="{panel.left}" y="{TOP - 14}">{html.escape(title)}</text>']
    for regret in REGRETS:
        y = panel.y(regret)
        parts.append(
            f'<line class="grid" x1="{panel.left}" x2="{panel.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        if has_scale:
            label = f"{regret:.2f}".removeprefix("0")
            parts.append(
                f'<text x="{panel.left - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
            )
    for tick in TICKS_S:
        if panel.least_s <= tick <= panel.most_s:
            x = f"{panel.x(tick):.0f}"
            parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>')
            parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{tick:,}</text>')
    middle = (panel.left + panel.right) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">simulated seconds of training'
        "</text>"
    )
    if has_scale:
        turned = f"translate(16 {(TOP + bottom) / 2}) rotate(-90)"
        parts.append(
            f'<text transform="{turned}" text-anchor="middle">AP below the best of the space</text>'
        )
    return parts


def _legend(left: float, drawn: Sequence[Compared]) -> list[str]:
    parts = []
    for row, each in enumerate(drawn):
        colour, dash = LINES[each.peer.key]
        y = TOP + 14 + 30 * row
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<line x1="{left}" x2="{left + 28}" y1="{y}" y2="{y}" stroke="{colour}"'
            f' stroke-width="2.2"{dashes}/>'
            f'<text x="{left + 36}" y="{y + 4}">{html.escape(each.peer.title)}</text>'
        )
    return parts
