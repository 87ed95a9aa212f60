"""`canopy trials`: lists the trials of a study."""

from dataclasses import dataclass
from typing import Annotated

import typer

from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.cli.option_group import takes
from canopy_search.search.cli.options import JsonOption, StudyOptions, open_store, print_json
from canopy_search.search.cli.trial_filters import Order
from canopy_search.search.console import open_console


@dataclass(frozen=True, kw_only=True)
class TrialsOptions(StudyOptions):
    """Options of `canopy trials`."""

    state: Annotated[
        list[str] | None,
        typer.Option(
            help="Only complete, pruned, failed, running, paused, interrupted or waiting trials; "
            "repeatable."
        ),
    ] = None
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARAMETER=VALUE",
            help="Only trials with this setting; numbers also with <, >, <=, >=; repeatable.",
        ),
    ] = None
    last: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Only the K that started last.")
    ] = None
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Only the K with the best AP, the best first."),
    ] = None
    sort: Annotated[
        Order | None, typer.Option(help="Best AP, longest time or lowest number first.")
    ] = None
    json_: JsonOption = False


@takes(TrialsOptions)
def trials(options: TrialsOptions) -> None:
    """List the study's trials, all or filtered."""
    from canopy_search.dashboards.formatting.tables import trials_table
    from canopy_search.search.cli.trial_filters import TrialFilter, parse_condition

    chosen = TrialFilter(
        options.state or (),
        [parse_condition(text) for text in options.where or ()],
        options.last,
        options.top,
        options.sort,
    )
    name = options.name
    store = open_store()
    summary = read_trials(store, name)
    found = chosen.choose(summary.trials, summary.worth)
    if options.json_:
        from canopy_search.dashboards.clearml.status import read_mirror

        mirror = read_mirror(store, summary)
        pages = mirror.trials if mirror else {}
        print_json([{**trial.as_json(), "clearml": pages.get(trial.number)} for trial in found])
    else:
        console = open_console()
        console.print(trials_table(found, width=console.width))
