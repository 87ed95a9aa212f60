"""Commands about the stage tree: its table of curves, simulations on it, its checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from search.command_line import ConfigOption, database_url, state_home
from search.config import load_config
from search.screen import open_console


def tabulate(
    config: ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Parquet file to write; default tables/STUDY.parquet below the state."),
    ] = None,
) -> None:
    """Train every point of a finite space to the end, and write all learning curves."""
    from search.session import tabulate_on_screen

    settings = load_config(config)
    home = state_home()
    path = output or home / "tables" / f"{settings.search.study}.parquet"
    points = tabulate_on_screen(settings, home, database_url(), path, open_console())
    typer.echo(f"wrote the learning curves of {points} points to {path}")
