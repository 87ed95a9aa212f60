"""`canopy dashboard`: all studies in optuna-dashboard."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from canopy_search.dashboards.study.model import StudyData
from canopy_search.search.cli.options import workspace
from canopy_search.search.environment import state_home


def dashboard(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port; default: the first free one from 8080."),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    host: Annotated[
        Literal["127.0.0.1", "0.0.0.0"],  # noqa: S104 - the option's help warns
        typer.Option(
            help="Address to listen on. There is no password: 0.0.0.0 is for a container whose "
            "port is published on 127.0.0.1."
        ),
    ] = "127.0.0.1",
) -> None:
    """Browse all studies in optuna-dashboard, on this machine only, until Ctrl-C."""
    from canopy_search.dashboards.optuna_dashboard.serve import is_desktop, serve_dashboard
    from canopy_search.dashboards.study.confirmation import last_confirmation
    from canopy_search.search.workflows.best_setting import best_yaml

    database = workspace().open_existing()

    def yaml_of(summary: StudyData, record: Mapping[str, Any]) -> bytes:
        confirmation = last_confirmation(database, summary, record)
        return best_yaml(summary, dict(record), None, confirmation).encode()

    serve_dashboard(
        database,
        state_home(),
        yaml_of,
        port,
        typer.echo,
        host=host,
        opens=not no_open and is_desktop(),
    )
