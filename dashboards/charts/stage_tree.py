"""The stage tree: which trials share which epochs, and how much time that saved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from canopy_search.dashboards.charts.theme import (
    Marks,
    ink_on,
    marks_of,
    new_figure,
    plain,
)
from canopy_search.dashboards.formatting.tables import score_text
from canopy_search.dashboards.formatting.values import duration_text, percent_text, value_text
from canopy_search.dashboards.html.page import Chart
from canopy_search.dashboards.study.model import StudyData, TrialData, training_s
from canopy_search.storage.study.epochs import EpochRecord

_ROW_PX, _LOWEST_PX, _HIGHEST_PX = 17, 220, 1500
_SMALLEST_LABEL_PX = 11.0
_LEGIBLE_ROWS = 90
_ALONE, _SHARED = 0.42, 1.0


@dataclass(eq=False)
class _Node:
    """A stage during the construction of the tree."""

    record: EpochRecord | None = None
    ending: list[TrialData] = field(default_factory=list)
    children: dict[str, "_Node"] = field(default_factory=dict)
    was_trained: bool = False


@dataclass(frozen=True)
class Block:
    """One stage, as high as the number of trials that share it.

    Attributes:
        epoch: counts from 1.
        first_row: row of its first trial, from 0.
        trials: the trials that share it, in the order of rows.
        record: its recorded epoch.
        was_trained: whether a trial of this study trained it.
    """

    epoch: int
    first_row: int
    trials: Sequence[TrialData]
    record: EpochRecord
    was_trained: bool

    @property
    def middle(self) -> float:
        """Its vertical centre, in rows."""
        return self.first_row + (len(self.trials) - 1) / 2


@dataclass(frozen=True)
class StageTree:
    """The tree as blocks: each row is a trial, each block an epoch that was trained once.

    Attributes:
        blocks: the stages, sorted by epoch, then by row.
        rows: the trials in the order of rows.
        reported: number of reported epochs.
        trained: number of trained epochs.
        saved_s: training time of the reused epochs, in seconds.
    """

    blocks: Sequence[Block]
    rows: Sequence[TrialData]
    reported: int
    trained: int
    saved_s: float


def stage_tree(data: StudyData) -> StageTree:
    """Lays out the stages of a study's trials with the trials of a branch in adjacent rows."""
    root = _Node()
    order = _order(marks_of(data))
    records = []
    for trial in sorted(data.trials, key=order):
        keys = [(stage.stage, stage) for stage in trial.stages]
        if not keys or any(key is None for key, _ in keys):
            continue
        node = root
        for key, record in keys:
            node = node.children.setdefault(str(key), _Node())
            node.record = node.record or record
            node.was_trained = node.was_trained or record.times_trained > 0
            records.append(record)
        node.ending.append(trial)
    blocks: list[Block] = []
    rows: list[TrialData] = []
    for child in root.children.values():
        _lay_out(child, 1, blocks, rows)
    return StageTree(
        blocks=sorted(blocks, key=lambda block: (block.epoch, block.first_row)),
        rows=rows,
        reported=len(records),
        trained=sum(record.times_trained for record in records),
        saved_s=sum(training_s(record.metrics) for record in records if not record.times_trained),
    )


def stage_tree_charts(data: StudyData) -> list[Chart]:
    """Returns the stage tree, if the trials have stages."""
    tree = stage_tree(data)
    if not tree.rows:
        return []
    title, drawn = "Which trials shared which epochs", [figure(data, tree)]
    legend = marks_of(data).legend(with_marks=False)
    height_px = _height_px(len(tree.rows))
    return [Chart("stage-tree", title, sentence(data, tree), drawn, height_px, legend)]


def sentence(data: StudyData, tree: StageTree) -> str:
    """Returns how much sharing saved, and which epoch is shared most."""
    text = (
        "Each row is a trial, with its number and final AP; each block is an epoch that was "
        "trained once. A block over several rows is shared by these trials, a pale block belongs "
        "to one trial"
    )
    if any(not block.was_trained for block in tree.blocks):
        text += ", a hatched block was not trained by this study"
    saved = tree.reported - tree.trained
    if saved <= 0:
        return f"{text}. Nothing was shared: {tree.reported} epochs were reported and trained."
    text += (
        f". Of {tree.reported} reported epochs, {tree.trained} were trained and {saved} "
        f"({percent_text(saved / tree.reported)}) reused, which saved {duration_text(tree.saved_s)}"
    )
    most = max(tree.blocks, key=lambda block: len(block.trials))
    if len(most.trials) > 1:
        text += (
            f". The most shared is epoch {most.epoch} of the {len(most.trials)} trials of "
            f"{branch_text(data, most)}"
        )
    return text + "."


def branch_text(data: StudyData, block: Block) -> str:
    """Returns the categories that all trials of a block have in common."""
    params = block.trials[0].params
    names = [name for name in data.categorical if name in params]
    return " · ".join(value_text(params[name]) for name in names) or "this branch"


def figure(data: StudyData, tree: StageTree) -> go.Figure:
    """Draws the blocks, with epochs from left to right, and each trial's final score."""
    rows = len(tree.rows)
    row_px = _height_px(rows) / max(rows, 1)
    gap = 0.12 if row_px > 6 else 0.0
    last = max(data.planned_epochs, *(block.epoch for block in tree.blocks))
    drawn, marks = new_figure("epoch", ""), marks_of(data)
    for name, colour, members in marks.by_colour(tree.rows):
        numbers = {trial.number for trial in members}
        blocks = [block for block in tree.blocks if block.trials[0].number in numbers]
        drawn.add_bar(
            orientation="h",
            base=[block.epoch - 1 + 0.02 for block in blocks],
            x=[0.96] * len(blocks),
            y=[block.middle for block in blocks],
            width=[len(block.trials) - gap for block in blocks],
            marker={
                "color": colour,
                "opacity": [_SHARED if len(b.trials) > 1 else _ALONE for b in blocks],
                "pattern": {"shape": ["" if b.was_trained else "/" for b in blocks], "size": 6},
            },
            name=plain(name),
            showlegend=marks.coloured is not None,
            text=[
                f"×{len(b.trials)}" if len(b.trials) > 1 and len(b.trials) * row_px > 14 else ""
                for b in blocks
            ],
            textposition="inside",
            insidetextanchor="middle",
            insidetextfont={"color": ink_on(colour)},
            textangle=0,
            hovertext=[_block_text(data, block) for block in blocks],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    if rows <= _LEGIBLE_ROWS:
        _add_ends(drawn, data, tree)
    roots = [
        block
        for block in tree.blocks
        if block.epoch == 1 and len(block.trials) * row_px >= _SMALLEST_LABEL_PX
    ]
    drawn.update_yaxes(
        tickvals=[root.middle for root in roots],
        ticktext=[plain(branch_text(data, root)) for root in roots],
        range=[rows - 0.4, -0.6],
        showgrid=False,
    )
    room = 0.12 * last + 0.6 if rows <= _LEGIBLE_ROWS else 0.05
    drawn.update_xaxes(
        range=[0, last + room],
        tickvals=[epoch - 0.5 for epoch in range(1, last + 1)],
        ticktext=[str(epoch) for epoch in range(1, last + 1)],
        showgrid=False,
    )
    tall = [root for root in roots if len(root.trials) * row_px >= 2 * _SMALLEST_LABEL_PX + 6]
    narrow = {
        "yaxis": {
            "tickvals": [root.middle for root in tall],
            "ticktext": [plain(branch_text(data, r)).replace(" · ", "<br>") for r in tall],
            "tickfont": {"size": 10},
        },
        "xaxis": {"range": [0, last * (1.65 if rows <= _LEGIBLE_ROWS else 1.0)]},
    }
    return drawn.update_layout(
        meta={"narrow": narrow},
        barmode="overlay",
        bargap=0,
        uniformtext={"minsize": 9, "mode": "hide"},
    )


def _add_ends(drawn: go.Figure, data: StudyData, tree: StageTree) -> None:
    """Writes each trial's number and final score at the end of its row."""
    best = data.best
    texts = []
    for trial in tree.rows:
        text = f"{trial.number} · {score_text(data, trial.score)}"
        texts.append(f"<b>{text} best</b>" if trial is best else text)
    drawn.add_scatter(
        x=[len(trial.stages) + 0.06 for trial in tree.rows],
        y=list(range(len(tree.rows))),
        mode="text",
        text=texts,
        textposition="middle right",
        textfont={"size": 11},
        showlegend=False,
        hoverinfo="skip",
    )


def _lay_out(node: _Node, epoch: int, blocks: list[Block], rows: list[TrialData]) -> None:
    first = len(rows)
    rows.extend(node.ending)
    for child in node.children.values():
        _lay_out(child, epoch + 1, blocks, rows)
    if node.record is not None:
        blocks.append(Block(epoch, first, tuple(rows[first:]), node.record, node.was_trained))


def _order(marks: Marks) -> Callable[[TrialData], tuple[Any, ...]]:
    """Returns a sort key: categories in their listed order, numeric values, trial number."""
    colours = list(marks.colours)
    symbols = list(marks.symbols)

    def key(trial: TrialData) -> tuple[Any, ...]:
        colour, mark = marks.colour_value(trial), marks.mark_value(trial)
        return (
            colours.index(colour) if colour in colours else -1,
            symbols.index(mark) if mark in symbols else -1,
            [float(trial.params.get(name, 0.0)) for name in marks.data.numeric],
            trial.number,
        )

    return key


def _block_text(data: StudyData, block: Block) -> str:
    numbers = ", ".join(str(trial.number) for trial in block.trials[:12])
    more = f" and {len(block.trials) - 12} more" if len(block.trials) > 12 else ""
    ap = score_text(data, block.trials[0].score_at(block.epoch))
    word = "trial" if len(block.trials) == 1 else "trials"
    took = duration_text(training_s(block.record.metrics))
    how = f"took {took}" if block.was_trained else "not trained by this study"
    return f"epoch {block.epoch}, {plain(data.metric)} {ap}, {how}<br>{word} {numbers}{more}"


def _height_px(rows: int) -> int:
    return max(_LOWEST_PX, min(_HIGHEST_PX, 90 + _ROW_PX * rows))
