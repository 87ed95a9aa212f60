"""A forecast that shows its progress while it measures."""

from dataclasses import dataclass, replace
from typing import Literal

from rich.console import Console

from canopy_search.search.forecast.estimates import Forecast
from canopy_search.search.forecast.forecast import forecast_search, slots_and_workers
from canopy_search.search.progress_display import open_screen
from canopy_search.search.study.plan import plan_search
from canopy_search.search.study.request import StudyRequest


@dataclass(frozen=True)
class ForecastRequest(StudyRequest):
    """A search to forecast.

    Attributes:
        n_trials: finished trials of the search.
        workers: workers on this machine; ``auto`` as in a search.
        gpus: number of GPUs to plan for; None for those of this machine.
        imported_s: seconds that the command took to start.
    """

    n_trials: int
    workers: int | Literal["auto"]
    gpus: int | None
    imported_s: float


def forecast_on_screen(request: ForecastRequest, console: Console) -> Forecast:
    """Measures with a progress display, and returns the forecast.

    Args:
        request: the search.
        console: where the progress is shown.
    """
    screen = open_screen(console)
    try:
        plan = plan_search(request, request.n_trials)
        slots, number = slots_and_workers(plan.config, request.workers, request.gpus)
        return forecast_search(replace(plan, workers=number), slots, screen, request.imported_s)
    finally:
        screen.close()
