"""`canopy best`: the best trial as YAML."""

from pathlib import Path
from typing import Annotated

import typer

from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.cli.options import ConfigOption, StudyOption, command_text
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.errors import NothingFoundError
from canopy_search.search.study.configuration import load_config
from canopy_search.storage.database import open_existing_database
from canopy_search.storage.study.studies import StudyStore


def best(
    config: ConfigOption = None,
    study: StudyOption = None,
    output: Annotated[
        Path | None, typer.Option(help="File to write; default: standard output.")
    ] = None,
) -> None:
    """Write the best trial as a YAML configuration."""
    from canopy_search.dashboards.study.confirmation import last_confirmation
    from canopy_search.filestore.atomic import write_atomically
    from canopy_search.search.workflows.best_setting import best_yaml

    settings = load_config(config)
    name = study or settings.search.study
    database = open_existing_database(state_home(), database_url())
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
    if output is None:
        typer.echo(text, nl=False)
        return
    write_atomically(output, text.encode())
    typer.echo(f"wrote {output}; train it with: {command_text('train', str(output))}")
