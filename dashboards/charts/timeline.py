"""When trials were trained, how many at once, and which workers were active."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import (
    QUIET,
    ink_on,
    marks_of,
    new_figure,
    plain,
    trial_text,
)
from canopy_search.dashboards.formatting.tables import worker_name
from canopy_search.dashboards.formatting.values import (
    duration_text,
    percent_text,
    time_unit,
)
from canopy_search.dashboards.html.page import Chart
from canopy_search.dashboards.study.model import StudyData, TrialData, training_s
from canopy_search.storage.workers.registry import WorkerSummary

_ROW_PX, _HIGHEST_PX = 26, 900
_MOST_WORKERS = 16
_PAUSE_S = 600.0
"""Gaps longer than this and than a twentieth of the work are cut out of the axis."""
_BREAK = 0.02
"""Share of the axis that a cut takes."""
_SLACK_S = 1.0
"""Epochs of one trial with a shorter gap are one interval of training."""


@dataclass(frozen=True)
class Stint:
    """Epochs of a trial that were trained without a gap.

    Attributes:
        trial: the trial.
        begin: start of the first epoch, in UTC.
        end: when the last epoch was recorded, in UTC.
        first: the first epoch; 0 if the epochs are unknown.
        last: the last epoch.
    """

    trial: TrialData
    begin: datetime
    end: datetime
    first: int = 0
    last: int = 0

    @property
    def seconds(self) -> float:
        """Its duration."""
        return (self.end - self.begin).total_seconds()


def stints(data: StudyData) -> list[Stint]:
    """Returns when each trial was trained, sorted by start."""
    found: list[Stint] = []
    for trial in data.trials:
        found += _of_epochs(trial) if trial.stages else _of_trial(trial)
    return sorted(found, key=lambda stint: (stint.begin, stint.trial.number))


def lanes(found: Sequence[Stint]) -> list[int]:
    """Returns a lane for each stint, so that no two overlap in one; as few lanes as possible."""
    free: list[datetime] = []
    chosen = []
    for stint in found:
        open_lanes = [lane for lane, until in enumerate(free) if until <= _soon(stint)]
        lane = open_lanes[0] if open_lanes else len(free)
        if lane == len(free):
            free.append(stint.end)
        free[lane] = max(free[lane], stint.end)
        chosen.append(lane)
    return chosen


class WorkClock:
    """Time without long pauses, counted from the first stint.

    Args:
        found: the stints, sorted by start.
    """

    def __init__(self, found: Sequence[Stint]) -> None:
        spans: list[list[datetime]] = []
        for stint in found:
            if spans and stint.begin <= spans[-1][1]:
                spans[-1][1] = max(spans[-1][1], stint.end)
            else:
                spans.append([stint.begin, stint.end])
        worked = sum((end - begin).total_seconds() for begin, end in spans)
        long = max(_PAUSE_S, worked / 20)
        self._spans: list[list[datetime]] = []
        for begin, end in spans:
            if self._spans and (begin - self._spans[-1][1]).total_seconds() <= long:
                self._spans[-1][1] = end
            else:
                self._spans.append([begin, end])
        self._break_s = _BREAK * worked

    @property
    def pauses(self) -> list[tuple[float, float]]:
        """Position of each cut on the axis, and length of the pause, both in seconds."""
        pairs = zip(self._spans, self._spans[1:], strict=False)
        return [
            (self.at(after[0]) - self._break_s / 2, (after[0] - before[1]).total_seconds())
            for before, after in pairs
        ]

    def at(self, moment: datetime) -> float:
        """Returns the position of a moment, in seconds; within a pause, that of its start."""
        passed = 0.0
        for index, (begin, end) in enumerate(self._spans):
            if moment < begin:
                return max(0.0, passed - self._break_s if index else 0.0)
            if moment <= end:
                return passed + (moment - begin).total_seconds()
            passed += (end - begin).total_seconds() + self._break_s
        return passed - self._break_s


def timeline_charts(data: StudyData) -> list[Chart]:
    """Returns the timeline, if anything was trained."""
    found = stints(data)
    if not found:
        return []
    rows = max(lanes(found)) + 1 + min(len(_shown_workers(data)), _MOST_WORKERS)
    drawn = figure(data, found)
    text = sentence(data, found)
    legend = marks_of(data).legend(with_marks=False)
    title = "When trials ran and workers were active"
    height_px = min(_HIGHEST_PX, 110 + _ROW_PX * rows)
    return [Chart("timeline", title, text, [drawn], height_px, legend)]


def sentence(data: StudyData, found: Sequence[Stint]) -> str:
    """Returns the period, how many trials ran at once, and how busy the workers were."""
    clock = WorkClock(found)
    begin, end = found[0].begin, max(stint.end for stint in found)
    most = max(lanes(found)) + 1
    at_once = "one trial at a time was" if most == 1 else f"up to {most} trials at once were"
    text = (
        f"Between {_clock(begin)} and {_clock(end)} {at_once} trained (each bar is a trial), "
        f"for {duration_text(sum(stint.seconds for stint in found))} in total"
    )
    active_s = sum(_active_s(data))
    if active_s > 0:
        busy = min(1.0, sum(stint.seconds for stint in found) / active_s)
        text += f"; workers trained for {percent_text(busy)} of the time they were active"
    pauses = clock.pauses
    if pauses:
        total = duration_text(sum(length for _, length in pauses))
        count = "a pause of" if len(pauses) == 1 else f"{len(pauses)} pauses, in total"
        text += f". The axis skips {count} {total} (dotted lines)"
    return text + "."


def figure(data: StudyData, found: Sequence[Stint]) -> go.Figure:
    """Draws one row per trial that ran at the same time, and one per worker."""
    clock = WorkClock(found)
    total_s = clock.at(max(stint.end for stint in found))
    unit_s, unit = time_unit(total_s)
    marks = marks_of(data)
    lane_of = dict(zip(map(id, found), lanes(found), strict=True))
    drawn = new_figure(f"time ({unit})", "")
    for name, colour, members in marks.by_colour(data.trials):
        numbers = {trial.number for trial in members}
        some = [stint for stint in found if stint.trial.number in numbers]
        if not some:
            continue
        drawn.add_bar(
            orientation="h",
            base=[clock.at(stint.begin) / unit_s for stint in some],
            x=[max(clock.at(s.end) - clock.at(s.begin), total_s / 2000) / unit_s for s in some],
            y=[lane_of[id(stint)] for stint in some],
            width=0.8,
            name=plain(name),
            showlegend=marks.coloured is not None,
            marker={"color": colour, "line": {"width": 0}},
            text=[str(stint.trial.number) for stint in some],
            textposition="inside",
            insidetextanchor="middle",
            insidetextfont={"color": ink_on(colour)},
            textangle=0,
            hovertext=[_stint_text(data, stint) for stint in some],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    lane_count = max(lane_of.values()) + 1
    workers = _shown_workers(data)
    for row, worker in enumerate(workers, start=lane_count):
        begin, end = (
            clock.at(moment) / unit_s for moment in (worker.started, worker.ended or worker.seen)
        )
        drawn.add_scatter(
            x=[begin, end],
            y=[row, row],
            mode="lines+markers",
            line={"color": QUIET, "width": 2},
            marker={"symbol": "line-ns", "size": 10, "line": {"width": 2, "color": QUIET}},
            showlegend=False,
            text=[
                f"{plain(worker_name(worker))} started",
                f"{plain(worker_name(worker))} {plain(worker.end or 'active')}",
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    for at, _ in clock.pauses:
        drawn.add_vline(x=at / unit_s, line={"width": 1, "dash": "dot", "color": QUIET})
    ticks = [
        f"trial {lane + 1} of {lane_count} at once" if lane_count > 1 else "trials"
        for lane in range(lane_count)
    ]
    ticks += [plain(worker_name(worker)) for worker in workers]
    drawn.update_yaxes(
        tickvals=list(range(len(ticks))),
        ticktext=ticks,
        range=[len(ticks) - 0.4, -0.6],
        showgrid=False,
    )
    return drawn.update_layout(barmode="overlay", uniformtext={"minsize": 9, "mode": "hide"})


def _of_epochs(trial: TrialData) -> list[Stint]:
    found: list[Stint] = []
    for stage in trial.stages:
        if not stage.times_trained:
            continue
        end = stage.recorded.astimezone(UTC)
        begin = end - timedelta(seconds=training_s(stage.metrics))
        before = found[-1] if found else None
        slack = timedelta(seconds=_SLACK_S + 0.5 * training_s(stage.metrics))
        if before and stage.epoch == before.last + 1 and begin - before.end <= slack:
            found[-1] = Stint(trial, before.begin, end, before.first, stage.epoch)
        else:
            found.append(Stint(trial, begin, end, stage.epoch, stage.epoch))
    return found


def _of_trial(trial: TrialData) -> list[Stint]:
    """Returns when a trial of plain Optuna ran."""
    if trial.began is None or trial.ended is None:
        return []
    return [Stint(trial, trial.began.astimezone(UTC), trial.ended.astimezone(UTC))]


def _soon(stint: Stint) -> datetime:
    """Returns when a lane must be free: epochs are recorded a moment after they end."""
    return stint.begin + timedelta(seconds=min(_SLACK_S, 0.2 * stint.seconds))


def _shown_workers(data: StudyData) -> list[WorkerSummary]:
    """Returns the workers that were active longest, sorted by start."""
    longest = sorted(data.workers, key=lambda w: (w.ended or w.seen) - w.started, reverse=True)
    return sorted(longest[:_MOST_WORKERS], key=lambda worker: worker.started)


def _active_s(data: StudyData) -> list[float]:
    return [((w.ended or w.seen) - w.started).total_seconds() for w in data.workers]


def _stint_text(data: StudyData, stint: Stint) -> str:
    epochs = (
        f"epoch {stint.first}"
        if stint.first == stint.last
        else f"epochs {stint.first} to {stint.last}"
    )
    what = f"{epochs}, " if stint.last else ""
    took = duration_text(stint.seconds)
    return f"{what}{took}, until {_clock(stint.end)}<br>{trial_text(data, stint.trial)}"


def _clock(moment: datetime) -> str:
    """Returns a moment in local time, to the minute."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
