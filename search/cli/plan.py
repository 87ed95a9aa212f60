"""`canopy plan`: estimates the cost of a search before it starts."""

import time
from typing import Annotated

import psutil
import typer

from canopy_search.search.cli.options import (
    AllowMissingOption,
    ConfigOption,
    JsonOption,
    WorkersOption,
    checked_workers,
    print_json,
)
from canopy_search.search.environment import state_home
from canopy_search.search.errors import SearchError
from canopy_search.search.progress_display import open_console
from canopy_search.search.study.configuration import load_config


def plan(
    config: ConfigOption = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Finished trials; default: from the configuration.")
    ] = None,
    workers: WorkersOption = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="Plan for this many GPUs like those of this machine."),
    ] = None,
    allow_missing: AllowMissingOption = False,
    json_: JsonOption = False,
) -> None:
    """Estimate the time, disk and memory of a search. Measures this machine, starts no search."""
    settings = load_config(config, allow_missing=allow_missing)
    if workers is not None and gpus is not None:
        raise SearchError("--workers and --gpus exclude each other; omit one of them")
    from canopy_search.search.workers.forkserver import warm_up

    warm_up()
    from canopy_search.search.forecast.command import forecast_on_screen
    from canopy_search.search.forecast.text import assumption_lines, forecast_screen

    imported_s = time.time() - psutil.Process().create_time()
    console = open_console(stderr=json_)
    forecast = forecast_on_screen(
        settings,
        state_home(),
        trials or settings.search.trials,
        checked_workers(workers, settings.search.workers),
        gpus,
        console,
        imported_s,
    )
    if json_:
        print_json(forecast.as_json())
        return
    console.print(forecast_screen(forecast))
    for line in assumption_lines(forecast):
        # Lines are not wrapped in a pipe, so that grep finds them.
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)
