"""The `canopy` command."""

import errno
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Annotated

import optuna
import typer

from dashboards.errors import DashboardError
from search.command_line import HOME_VARIABLE, state_home
from search.commands import (
    compare,
    data,
    database,
    export,
    mirror,
    model,
    stages,
    status,
    study,
    workers,
)
from search.commands.confirm import confirm
from search.commands.doctor import doctor
from search.commands.report import report
from search.errors import SearchError
from search.thread_waiting import spin_briefly
from storage.connecting import DATABASE_FAILURES, failure_text
from storage.errors import StorageError
from training.errors import TrainingError

app = typer.Typer(
    name="canopy",
    help="Search the backbone, loss and schedule of multi-label image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    data.init,
    study.search,
    workers.worker,
    status.status,
    study.trials,
    confirm,
    study.best,
    compare.compare,
    export.export,
    model.train,
    model.predict,
    study.dashboard,
    workers.pause,
    workers.resume,
    workers.stop,
    mirror.mirror,
    stages.promote,
    stages.tabulate,
    stages.simulate,
    report,
    doctor,
):
    app.command()(command)

db_app = typer.Typer(help="The database that studies lie in.", no_args_is_help=True)
for db_command in (database.status, database.stop, database.url):
    db_app.command()(db_command)
app.add_typer(db_app, name="db")

stages_app = typer.Typer(
    help="Epochs that trials share, and their checkpoints.", no_args_is_help=True
)
for stages_command in (stages.ls, stages.gc):
    stages_app.command()(stages_command)
app.add_typer(stages_app, name="stages")


@app.callback()
def _canopy(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")
    ] = False,
) -> None:
    """`main` has taken --debug already; it stands here for --help."""


def main() -> None:
    """Runs the command; what goes wrong is one line on standard error and no traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # Ctrl-C too: a script's background processes are born deaf to it, and then cannot be stopped so
    # that they can say how to go on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spin_briefly()
    # What Pillow warns of is either harmless or reported as a damaged image.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        app(arguments, prog_name="canopy")
    except Exception as error:
        if debug:
            raise
        message, exit_status = explain(error, state_home())
        typer.echo(f"canopy: {message}", err=True)
        sys.exit(exit_status)


def explain(error: Exception, home: Path) -> tuple[str, int]:
    """Returns what went wrong in words, with the remedy, and the exit status.

    Args:
        error: what ended the command.
        home: the state folder.
    """
    if isinstance(error, SearchError | DashboardError | StorageError | TrainingError):
        return str(error), error.exit_status
    if isinstance(error, DATABASE_FAILURES):
        return (
            f"the database failed: {failure_text(error)}; nothing is lost, the same command goes "
            "on when that is mended"
        ), 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return where + (error.strerror or str(error)) + _remedy(error, home), 1
    first_line = str(error).partition("\n")[0]
    return (
        f"this should not have happened: {type(error).__name__}: {first_line}; nothing is lost; "
        "the same command with --debug shows where, please report it"
    ), 1


def _remedy(error: OSError, home: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"; make room there, or set {HOME_VARIABLE} to a folder on a larger disk"
    inside = error.filename and Path(os.fsdecode(error.filename)).is_relative_to(home)
    if inside and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}:
        return f"; the state folder is {home}, set {HOME_VARIABLE} to one that you can write to"
    return ""


def _interrupt(_signal_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
