"""`canopy tabulate`: all learning curves of a finite space."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canopy_search.search.cli.options import INTERRUPTED, ConfigOption
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.progress_display import open_console
from canopy_search.search.study.configuration import load_config

if TYPE_CHECKING:
    pass


def tabulate(
    config: ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Parquet file to write; default tables/STUDY.parquet below the state."),
    ] = None,
) -> None:
    """Train every point of a finite space to the end, and write all learning curves."""
    from canopy_search.search.workflows.tabulate import tabulate_on_screen

    settings = load_config(config)
    home = state_home()
    path = output or home / "tables" / f"{settings.search.study}.parquet"
    points = tabulate_on_screen(settings, home, database_url(), path, open_console())
    if points is None:
        typer.echo("\nInterrupted; nothing is lost. The same command goes on.", err=True)
        raise typer.Exit(INTERRUPTED)
    typer.echo(f"wrote the learning curves of {points} points to {path}")
