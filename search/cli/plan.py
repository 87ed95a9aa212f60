"""`canopy plan`: estimates the cost of a search before it starts."""

import time
from dataclasses import dataclass
from typing import Annotated

import psutil
import typer

from canopy_search.search.cli.option_group import takes
from canopy_search.search.cli.options import (
    AllowMissingOption,
    ConfigOption,
    JsonOption,
    WorkersOption,
    checked_workers,
    print_json,
    requested,
)
from canopy_search.search.console import open_console
from canopy_search.search.errors import SearchError


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Options of `canopy plan`."""

    config: ConfigOption = None
    trials: Annotated[
        int | None, typer.Option(min=1, help="Finished trials; default: from the configuration.")
    ] = None
    workers: WorkersOption = None
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="Plan for this many GPUs like those of this machine."),
    ] = None
    allow_missing: AllowMissingOption = False
    json_: JsonOption = False


@takes(PlanOptions)
def plan(options: PlanOptions) -> None:
    """Estimate the time, disk and memory of a search. Measures this machine, starts no search."""
    asked = requested(options.config, allow_missing=options.allow_missing)
    if options.workers is not None and options.gpus is not None:
        raise SearchError("--workers and --gpus exclude each other; omit one of them")
    from canopy_search.search.workers.forkserver import warm_up

    warm_up()
    from canopy_search.search.forecast.forecast import ForecastRequest, forecast_on_screen
    from canopy_search.search.forecast.text import assumption_lines, forecast_screen

    search = asked.configuration.settings.search
    request = ForecastRequest(
        asked.workspace,
        asked.configuration,
        asked.study,
        n_trials=options.trials or search.trials,
        workers=checked_workers(options.workers, search.workers),
        gpus=options.gpus,
        imported_s=time.time() - psutil.Process().create_time(),
    )
    console = open_console(stderr=options.json_)
    forecast = forecast_on_screen(request, console)
    if options.json_:
        print_json(forecast.as_json())
        return
    console.print(forecast_screen(forecast))
    for line in assumption_lines(forecast):
        # Lines are not wrapped in a pipe, so that grep finds them.
        console.print(line, soft_wrap=not console.is_terminal)
