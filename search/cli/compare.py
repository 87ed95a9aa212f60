"""`canopy compare`: trials side by side."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canopy_search.search.cli.options import (
    ConfigOption,
    JsonOption,
    StudyOption,
    StudyOptions,
    print_json,
    workspace,
)
from canopy_search.search.console import open_console, say

if TYPE_CHECKING:
    from canopy_search.dashboards.comparison.comparison import TrialChoice
    from canopy_search.storage.study.studies import StudyStore


def compare(
    trials: Annotated[
        list[str],
        typer.Argument(
            metavar="TRIAL...",
            help="Two to six: 3 is trial 3 of the study, planet:3 is trial 3 of another study, and "
            "planet is its best trial. All are compared with the first.",
        ),
    ],
    config: ConfigOption = None,
    study: StudyOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Also write this HTML file, with figures.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Compare trials side by side: settings, metrics, differences, curves, AP per label."""
    from canopy_search.dashboards.comparison.comparison import compare_trials
    from canopy_search.dashboards.comparison.page import side_by_side_html
    from canopy_search.dashboards.comparison.text import side_by_side_screen
    from canopy_search.filestore.atomic import check_writable, write_atomically
    from canopy_search.storage.study.studies import StudyStore

    name = StudyOptions(config=config, study=study).name
    if output is not None:
        check_writable(output)
    database = workspace().open_existing()
    store = StudyStore(database)
    choices = [_trial_choice(store, name, text) for text in trials]
    compared = compare_trials(store, database, choices, datetime.now())
    if json_:
        print_json(compared.as_json())
    else:
        open_console().print(side_by_side_screen(compared))
    if output is not None:
        page = side_by_side_html(compared).encode()
        write_atomically(output, page)
        say(f"wrote {output} ({len(page) / 1e6:.1f} MB); open it in a browser", err=True)


def _trial_choice(store: "StudyStore", default_study: str, text: str) -> "TrialChoice":
    """Returns the trial that an argument names; a study's name may itself contain a colon."""
    from canopy_search.dashboards.comparison.comparison import TrialChoice

    if (number := _trial_number(text)) is not None:
        return TrialChoice(default_study, number)
    study, colon, suffix = text.rpartition(":")
    if colon and (number := _trial_number(suffix)) is not None and text not in store.names():
        return TrialChoice(study or default_study, number)
    return TrialChoice(text, None)


def _trial_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
