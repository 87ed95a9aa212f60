"""`canopy dashboard`: all studies in optuna-dashboard."""

from typing import Annotated, Literal

import typer

from canopy_search.dashboards.study.model import StudyData
from canopy_search.search.cli.options import wait_until, workspace
from canopy_search.search.console import say
from canopy_search.search.environment import state_home
from canopy_search.storage.errors import NoDatabaseError


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
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the first search.")] = False,
) -> None:
    """Browse all studies in optuna-dashboard, on this machine only, until Ctrl-C."""
    from canopy_search.dashboards.optuna_dashboard.app import UPLOADS, Dashboard
    from canopy_search.dashboards.optuna_dashboard.serve import is_desktop, open_server, serve
    from canopy_search.search.workflows.best_setting import best_yaml

    def yaml_of(data: StudyData) -> str:
        return best_yaml(data, dict(data.record or {}), data.confirmation)

    if wait:
        wait_until(_has_tables, "nothing is stored in the database yet")
    app = Dashboard(workspace().open_existing(), state_home() / UPLOADS, yaml_of)
    serve(open_server(app, host, port), say, opens=not no_open and is_desktop())


def _has_tables() -> bool:
    try:
        workspace().open_existing().close()
    except NoDatabaseError:
        return False
    return True
