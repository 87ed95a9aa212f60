"""Commands about the workers of a study: one more of them, a pause, an end."""

from typing import Annotated, Literal

import typer

from canopy_search.search.command_line import (
    DEFAULT_PATIENCE_MIN,
    INTERRUPTED,
    AllowMissingOption,
    ConfigOption,
    PatienceOption,
    StudyOption,
    WaitOption,
    command_text,
    database_url,
    open_store,
    selection,
    state_home,
    wait_for_study,
)
from canopy_search.search.config import load_config
from canopy_search.search.screen import open_console
from canopy_search.storage.control import PAUSE, RUN, STOP_FINISHING, STOP_PRUNING
from canopy_search.storage.database import open_database
from canopy_search.storage.studies import StudyStore


def worker(
    study: StudyOption = None,
    config: ConfigOption = None,
    database_patience: PatienceOption = DEFAULT_PATIENCE_MIN,
    allow_missing: AllowMissingOption = False,
    wait: WaitOption = False,
) -> None:
    """Work on a study that was begun elsewhere, in this process, until nothing is left to do.

    It needs the same DATABASE_URL, the same images and labels, and the same place of checkpoints;
    paths may differ. It may come and leave at any time.
    """
    from canopy_search.search.join import join_plan
    from canopy_search.search.session import work_on_screen

    settings = load_config(config, allow_missing=allow_missing)
    name = study or settings.search.study
    store = open_store()
    if wait:
        wait_for_study(store, name)
    plan = join_plan(
        settings,
        state_home(),
        store,
        name,
        patience_s=60 * database_patience,
    )
    if not work_on_screen(plan, database_url(), open_console()):
        again = command_text("worker", *selection(config, study))
        typer.echo(f"\nLeft; what it was at goes on elsewhere. Come back with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)


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
