"""A forecast that shows its progress while it measures."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.forecast.estimates import Forecast
from canopy_search.search.forecast.forecast import forecast_search, slots_and_workers
from canopy_search.search.progress_display import open_screen
from canopy_search.search.study.plan import plan_search


def forecast_on_screen(  # noqa: PLR0917 - what a forecast needs
    config: CanopyConfig,
    home: Path,
    n_trials: int,
    workers: int | Literal["auto"],
    gpus: int | None,
    console: Console,
    imported_s: float,
) -> Forecast:
    """Measures with a progress display, and returns the forecast.

    Args:
        config: the whole configuration.
        home: the state folder.
        n_trials: finished trials of the search.
        workers: workers on this machine; ``auto`` as in a search.
        gpus: number of GPUs to plan for; None for those of this machine.
        console: where the progress is shown.
        imported_s: seconds that the command took to start.
    """
    screen = open_screen(console)
    try:
        plan = plan_search(config, home, config.search.study, n_trials)
        slots, number = slots_and_workers(config, workers, gpus)
        return forecast_search(replace(plan, workers=number), slots, screen.emit, imported_s)
    finally:
        screen.close()
