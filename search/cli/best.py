"""`canopy best`: the best trial as YAML."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.cli.option_group import takes
from canopy_search.search.cli.options import StudyOptions, command_text, workspace
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.console import say, write
from canopy_search.search.errors import NothingFoundError, SearchError
from canopy_search.search.study.configuration import load_config
from canopy_search.storage.study.studies import StudyStore


@dataclass(frozen=True, kw_only=True)
class BestOptions(StudyOptions):
    """Options of `canopy best`."""

    output: Annotated[
        Path | None, typer.Option(help="File to write; default: standard output.")
    ] = None


def _settings_here(options: BestOptions, study: str) -> CanopyConfig | None:
    """Returns the configuration, with the places of data and checkpoints, if it is this study's."""
    try:
        settings = load_config(options.config).settings
    except SearchError:
        if options.config is not None or options.study is None:
            raise
        return None  # the user named the study, so a broken ./canopy.yaml is not about it
    return settings if settings.search.study == study else None


@takes(BestOptions)
def best(options: BestOptions) -> None:
    """Write the best trial as a YAML configuration."""
    from canopy_search.dashboards.study.confirmation import last_confirmation
    from canopy_search.filestore.atomic import write_atomically
    from canopy_search.search.workflows.best_setting import best_yaml

    name = options.name
    database = workspace().open_existing()
    store = StudyStore(database)
    summary = read_trials(store, name)
    record = summary.record
    if record is None:
        raise NothingFoundError(
            f"study {name!r} was not created by Canopy, so its settings are unknown"
        )
    confirmation = last_confirmation(database, summary, record)
    here = _settings_here(options, name)
    places = (here.data, here.stages) if here else (None, None)
    text = best_yaml(summary, record, confirmation, *places)
    if options.output is None:
        write(text)
        return
    write_atomically(options.output, text.encode())
    again = command_text("train", str(options.output))
    say(f"wrote {options.output}; train it with: {again}")
