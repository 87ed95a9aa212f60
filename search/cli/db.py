"""The studies' database."""

from contextlib import closing

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.cli.lazy_group import plain_typer
from canopy_search.search.cli.options import JsonOption, print_json, workspace
from canopy_search.search.console import say
from canopy_search.search.environment import DATABASE_VARIABLE
from canopy_search.search.errors import SearchError
from canopy_search.storage.study.studies import StudyStore


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
    if embedded.is_running() and (present := _living_workers()):
        raise SearchError(
            f"{counted(present, 'worker')} would start it again; stop the search first, "
            "with Ctrl-C where it runs or with: canopy stop"
        )
    stopped = embedded.stop()
    say("stopped" if stopped else "was not running")


def _living_workers() -> int:
    with closing(workspace().open(writes=False)) as database:
        store = StudyStore(database)
        studies = [store.workers(name) for name in store.names()]
    return sum(worker.is_at_hand for workers in studies for worker in workers)


def url() -> None:
    """Print the database's URL with a masked password; starts the embedded server."""
    say(workspace().open(writes=False).shown_url)


group = plain_typer(__doc__)
for command in (status, stop, url):
    group.command()(command)
