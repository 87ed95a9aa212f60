"""`canopy pause`, `resume` and `stop`: control the workers of a study."""

from typing import Annotated, Literal

import typer

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.cli.options import (
    ConfigOption,
    StudyOption,
    StudyOptions,
    command_text,
    open_store,
)
from canopy_search.search.console import say
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.control import PAUSE, RUN, STOP_FINISHING, STOP_PRUNING


def pause(config: ConfigOption = None, study: StudyOption = None) -> None:
    """Pause all workers of a study, on all machines, after their current epoch."""
    options = StudyOptions(config=config, study=study)
    name = options.name
    _control(name, PAUSE)
    again = command_text("resume", *options.selection)
    say(f"study {name} pauses after the current epochs; resume with: {again}")


def resume(config: ConfigOption = None, study: StudyOption = None) -> None:
    """Resume the workers of a paused study."""
    options = StudyOptions(config=config, study=study)
    name = options.name
    present = sum(worker.is_living for worker in _control(name, RUN).workers(name))
    if present:
        say(f"study {name} resumes with {counted(present, 'worker')}")
        return
    command = command_text("search", *options.selection)
    say(f"study {name} is resumed and has no workers; start some with: {command}")


def stop(
    config: ConfigOption = None,
    study: StudyOption = None,
    running: Annotated[
        Literal["finish", "prune"],
        typer.Option(help="Let running trials finish, or prune them at once."),
    ] = "finish",
) -> None:
    """Stop a study on all machines; results are kept, and canopy search resumes it."""
    name = StudyOptions(config=config, study=study).name
    _control(name, STOP_FINISHING if running == "finish" else STOP_PRUNING)
    what = "are trained until they end" if running == "finish" else "are pruned"
    say(f"study {name} stops: running trials {what}, and no new trial starts")


def _control(study: str, control: str) -> StudyStore:
    store = open_store(writes=True)
    store.set_control(study, control)
    return store
