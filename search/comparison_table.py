"""A comparison of samplers and pruners as a table for a terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from dashboards.tables import duration_text
from search.comparison import Compared, Spread


def comparison_table(rows: Sequence[Compared], *, n_trials: int, seeds: int, workers: int) -> Table:
    """Returns one row for each sampler with each pruner.

    Args:
        rows: what `compare` returned.
        n_trials: finished trials of each search.
        seeds: searches for each row.
        workers: of each search.
    """
    who = "one worker" if workers == 1 else f"{workers} workers"
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{n_trials} trials, {who}: mean ± standard deviation over {seeds} seeds",
        title_justify="left",
        title_style="bold",
    )
    for name in ("sampler", "pruner"):
        table.add_column(name, no_wrap=True)
    for name in (
        "trials",
        "best AP",
        "below the best",
        "reported",
        "trained",
        "time",
        "nothing shared",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.sampler,
            row.pruner,
            f"{row.trials.mean:g}",
            _text(row.best_ap, 4),
            _text(row.regret, 4),
            _text(row.epochs_reported, 0),
            _text(row.epochs_trained, 0),
            duration_text(row.seconds.mean),
            duration_text(row.seconds_alone.mean),
        )
    return table


def _text(spread: Spread, digits: int) -> str:
    mean, deviation = (f"{value:.{digits}f}" for value in (spread.mean, spread.deviation))
    if digits:
        mean, deviation = mean.removeprefix("0"), deviation.removeprefix("0")
    return f"{mean} ± {deviation}"
