"""`canopy promote`: trains pruned trials until their last epoch."""

from typing import Annotated

import typer

from canopy_search.search.cli.options import (
    INTERRUPTED,
    AllowMissingOption,
    ConfigOption,
    StudyOption,
    command_text,
    selection,
)
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.progress_display import open_console
from canopy_search.search.study.configuration import load_config


def promote(
    trials: Annotated[list[int], typer.Argument(min=0, help="Numbers of pruned trials.")],
    config: ConfigOption = None,
    study: StudyOption = None,
    allow_missing: AllowMissingOption = False,
) -> None:
    """Train pruned trials until their last epoch, from where they stopped."""
    from canopy_search.search.workflows.promote import promote_on_screen

    settings = load_config(config, allow_missing=allow_missing)
    name = study or settings.search.study
    finished = promote_on_screen(
        settings, state_home(), database_url(), name, list(dict.fromkeys(trials)), open_console()
    )
    if not finished:
        again = command_text("promote", *map(str, trials), *selection(config, study))
        typer.echo(f"\nInterrupted; nothing is lost. Resume with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
