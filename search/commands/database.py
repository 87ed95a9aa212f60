"""Commands about the database that studies lie in."""

import typer

from search.command_line import (
    DATABASE_VARIABLE,
    JsonOption,
    database_url,
    print_json,
    state_home,
)
from search.errors import SearchError
from storage.database import describe_database, embedded_postgres, open_database


def status(json_: JsonOption = False) -> None:
    """Say where the database is and whether it answers."""
    state = describe_database(state_home(), database_url())
    if json_:
        print_json(state)
    else:
        for key, value in state.items():
            typer.echo(f"{key:<10} {value}")


def stop() -> None:
    """Stop the embedded Postgres; the next command that needs it starts it again."""
    if database_url():
        raise SearchError(f"{DATABASE_VARIABLE} is set; that server is not ours to stop")
    stopped = embedded_postgres(state_home()).stop()
    typer.echo("stopped" if stopped else "was not running")


def url() -> None:
    """Print the URL of the database, its password masked; starts the embedded one."""
    typer.echo(open_database(state_home(), database_url(), writes=False).shown_url)
