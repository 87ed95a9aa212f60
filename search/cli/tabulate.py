"""`canopy tabulate`: writes all learning curves of a finite space."""

from pathlib import Path
from typing import Annotated

import typer

from canopy_search.search.cli.options import INTERRUPTED, ConfigOption, requested
from canopy_search.search.console import open_console, say
from canopy_search.search.environment import folder_name


def tabulate(
    config: ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Parquet file to write; default: tables/STUDY.parquet in the state folder."
        ),
    ] = None,
) -> None:
    """Train every point of a finite space fully, and write all learning curves."""
    from canopy_search.search.workflows.tabulate import tabulate_on_screen

    request = requested(config)
    path = output or request.workspace.home / "tables" / f"{folder_name(request.study)}.parquet"
    points = tabulate_on_screen(request, path, open_console())
    if points is None:
        say("", "Interrupted; nothing is lost. Resume with the same command.", err=True)
        raise typer.Exit(INTERRUPTED)
    say(f"wrote the learning curves of {points} points to {path}")
