"""`canopy pause`, `resume` and `stop`: control the workers of a study."""

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
    """Pause all workers of a study, on all machines, after their current epoch."""
    name = _control(config, study, PAUSE)
    again = command_text("resume", *selection(config, study))
    typer.echo(f"study {name} pauses after the current epochs; resume with: {again}")


def resume(config: ConfigOption = None, study: StudyOption = None) -> None:
    """Resume the workers of a paused study."""
    name = _control(config, study, RUN)
    store = _writable_store()
    present = sum(worker.is_living for worker in store.workers(name))
    if present:
        typer.echo(f"study {name} resumes with {present} worker{'s' * (present > 1)}")
        return
    command = command_text("search", *selection(config, study))
    typer.echo(f"study {name} is resumed and has no workers; start some with: {command}")


def stop(
    config: ConfigOption = None,
    study: StudyOption = None,
    running: Annotated[
        Literal["finish", "prune"],
        typer.Option(help="Let running trials finish, or prune them at once."),
    ] = "finish",
) -> None:
    """Stop a study on all machines; results are kept, and canopy search resumes it."""
    name = _control(config, study, STOP_FINISHING if running == "finish" else STOP_PRUNING)
    what = "are trained until they end" if running == "finish" else "are pruned"
    typer.echo(f"study {name} stops: running trials {what}, and no new trial starts")


def _control(config: "ConfigOption", study: str | None, control: str) -> str:
    name = study or load_config(config).search.study
    _writable_store().set_control(name, control)
    return name


def _writable_store() -> StudyStore:
    open_store()  # fails if there is no database
    return StudyStore(open_database(state_home(), database_url()))
