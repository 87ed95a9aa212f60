"""The studies' database."""

import sqlalchemy

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.cli.lazy_group import plain_typer
from canopy_search.search.cli.options import JsonOption, print_json, workspace
from canopy_search.search.console import say
from canopy_search.search.environment import DATABASE_VARIABLE
from canopy_search.search.errors import SearchError
from canopy_search.storage.connection.urls import masked
from canopy_search.storage.database import make_engine
from canopy_search.storage.schema.living_workers import living_workers


def status(json_: JsonOption = False) -> None:
    """Print where the database is and whether it answers."""
    state = workspace().describe()
    if json_:
        print_json(state)
    else:
        for key, value in state.items():
            say(f"{key:<10} {value}")


def stop() -> None:
    """Stop the embedded Postgres; the next command that needs it starts it again."""
    embedded = workspace().embedded
    if embedded is None:
        raise SearchError(f"{DATABASE_VARIABLE} is set; Canopy stops only its embedded server")
    if embedded.is_running() and (present := _count_workers(workspace().start())):
        raise SearchError(
            f"{counted(present, 'worker')} would start it again; stop the search first, "
            "with Ctrl-C where it runs or with: canopy stop"
        )
    stopped = embedded.stop()
    say("stopped" if stopped else "was not running")


def _count_workers(server: sqlalchemy.URL) -> int:
    engine = make_engine(server, connections=1)
    try:
        with engine.connect() as connection:
            return len(living_workers(connection))
    finally:
        engine.dispose()


def url() -> None:
    """Print the database's URL with a masked password; starts the embedded server."""
    say(masked(workspace().start()))


def upgrade() -> None:
    """Upgrade the tables of an older version; no worker of that version may run."""
    workspace().open().close()
    say("the tables match this version")


group = plain_typer(__doc__)
for command in (status, stop, upgrade, url):
    group.command()(command)
