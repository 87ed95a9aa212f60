"""`canopy best`: the best trial as YAML."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.cli.option_group import takes
from canopy_search.search.cli.options import StudyOptions, command_text
from canopy_search.search.console import say, write
from canopy_search.search.errors import NothingFoundError
from canopy_search.storage.study.studies import StudyStore


@dataclass(frozen=True, kw_only=True)
class BestOptions(StudyOptions):
    """Options of `canopy best`."""

    output: Annotated[
        Path | None, typer.Option(help="File to write; default: standard output.")
    ] = None


@takes(BestOptions)
def best(options: BestOptions) -> None:
    """Write the best trial as a YAML configuration."""
    from canopy_search.dashboards.study.confirmation import last_confirmation
    from canopy_search.filestore.atomic import write_atomically
    from canopy_search.search.workflows.best_setting import best_yaml

    request = options.request()
    name, settings = request.study, request.configuration.settings
    database = request.workspace.open_existing()
    store = StudyStore(database)
    summary = read_trials(store, name)
    record = summary.record
    if record is None:
        raise NothingFoundError(
            f"study {name!r} was not created by Canopy, so its settings are unknown"
        )
    is_configured = name == settings.search.study
    confirmation = last_confirmation(database, summary, record)
    text = best_yaml(summary, record, settings.data if is_configured else None, confirmation)
    if options.output is None:
        write(text)
        return
    write_atomically(options.output, text.encode())
    again = command_text("train", str(options.output))
    say(f"wrote {options.output}; train it with: {again}")
