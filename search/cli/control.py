"""`canopy pause`, `resume` and `stop`: orders to the workers of a study."""

from typing import Annotated, Literal

import typer

from canopy_search.search.cli.options import (
    ConfigOption,
    StudyOption,
    command_text,
    open_store,
    selection,
)
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.study.configuration import load_config
from canopy_search.storage.database import open_database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.control import PAUSE, RUN, STOP_FINISHING, STOP_PRUNING


def pause(config: ConfigOption = None, study: StudyOption = None) -> None:
    """Let all workers of a study finish the epoch that they are at, and wait, on any machine."""
    name = _control(config, study, PAUSE)
    again = command_text("resume", *selection(config, study))
    typer.echo(f"study {name} pauses after the epochs that are under way; go on with: {again}")


def resume(config: ConfigOption = None, study: StudyOption = None) -> None:
    """Let the workers of a study that pauses go on."""
    name = _control(config, study, RUN)
    store = _writable_store()
    present = sum(worker.is_living for worker in store.workers(name))
    if present:
        typer.echo(f"study {name} goes on with {present} worker{'s' * (present > 1)}")
        return
    command = command_text("search", *selection(config, study))
    typer.echo(f"study {name} may go on, and has no worker; start some with: {command}")


def stop(
    config: ConfigOption = None,
    study: StudyOption = None,
    running: Annotated[
        Literal["finish", "prune"],
        typer.Option(help="What becomes of the trials that run: they finish, or end at once."),
    ] = "finish",
) -> None:
    """End a study on all machines; what it has found stays, and canopy search begins it again."""
    name = _control(config, study, STOP_FINISHING if running == "finish" else STOP_PRUNING)
    what = "run to their end" if running == "finish" else "end as pruned"
    typer.echo(f"study {name} stops; the trials that run {what}, and no new one begins")


def _control(config: "ConfigOption", study: str | None, control: str) -> str:
    name = study or load_config(config).search.study
    _writable_store().set_control(name, control)
    return name


def _writable_store() -> StudyStore:
    open_store()  # there must be something already
    return StudyStore(open_database(state_home(), database_url()))
