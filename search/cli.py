"""The `canopy` command."""

import json
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import optuna
import typer

from dashboards.errors import DashboardError
from dashboards.summary import StudySummary, summarize_study
from search.config import CanopyConfig, load_config
from search.errors import NothingFoundError, SearchError
from search.screen import open_console
from search.thread_waiting import spin_briefly
from storage.connecting import DATABASE_FAILURES, failure_text
from storage.database import (
    describe_database,
    embedded_postgres,
    open_database,
    open_existing_database,
)
from storage.errors import StorageError
from storage.studies import StudyStore
from training.errors import TrainingError

HOME_VARIABLE = "CANOPY_HOME"
DATABASE_VARIABLE = "DATABASE_URL"
INTERRUPTED = 130

app = typer.Typer(
    name="canopy",
    help="Search the backbone, loss and schedule of multi-label image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
db_app = typer.Typer(help="The database that studies lie in.", no_args_is_help=True)
app.add_typer(db_app, name="db")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration; default ./canopy.yaml, else the built-in demo."),
]
StudyOption = Annotated[
    str | None, typer.Option("--study", help="Name of the study; default the configuration's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.callback()
def _canopy(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")
    ] = False,
) -> None:
    """`main` has taken --debug already; it stands here for --help."""


@app.command()
def search(
    config: ConfigOption = None,
    study: StudyOption = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Total of finished trials of the study.")
    ] = None,
    workers: Annotated[
        str, typer.Option(help="Worker processes: auto or 1 in this version.")
    ] = "auto",
) -> None:
    """Search until the study has its trials; the same command goes on after a stop."""
    if workers not in {"auto", "1"}:
        raise SearchError(f"--workers {workers}: this version runs one worker; leave it at auto")
    settings = load_config(config)
    name = study or settings.search.study
    from search.session import search_until_done

    finished = search_until_done(
        settings,
        state_home(),
        database_url(),
        name,
        trials or settings.search.trials,
        open_console(),
    )
    arguments = _arguments(config, study)
    if not finished:
        typer.echo(
            f"\nInterrupted; nothing is lost. Go on with: {_command('search', *arguments)}"
            + (f" --trials {trials}" if trials else ""),
            err=True,
        )
        raise typer.Exit(INTERRUPTED)
    following = {
        _command("best", *arguments, "--output", "best.yaml"): "the best setting as YAML",
        _command("train", "best.yaml"): "train it in full, test it, keep the model",
        _command("dashboard"): "browse the study",
    }
    width = max(len(command) for command in following)
    typer.echo("Next:")
    for command, meaning in following.items():
        typer.echo(f"  {command:<{width}}  {meaning}")


@app.command()
def status(
    config: ConfigOption = None, study: StudyOption = None, json_: JsonOption = False
) -> None:
    """Say how far the study is, its best setting, and what it cost."""
    from dashboards.tables import ap_text, counts_text, params_text, spent_text

    summary = _summary(load_config(config), study)
    if json_:
        _print_json(summary.as_json())
        return
    typer.echo(f"study {summary.study}: {counts_text(summary)}")
    if summary.best is not None:
        best = summary.best
        typer.echo(
            f"best AP {ap_text(best.val_ap)}: trial {best.number}, {params_text(best.params)}"
        )
    typer.echo(spent_text(summary))


@app.command()
def trials(
    config: ConfigOption = None, study: StudyOption = None, json_: JsonOption = False
) -> None:
    """List the study's trials."""
    from dashboards.tables import trials_table

    summary = _summary(load_config(config), study)
    if json_:
        _print_json([trial.as_json() for trial in summary.trials])
    else:
        open_console().print(trials_table(summary.trials))


@app.command()
def best(
    config: ConfigOption = None,
    study: StudyOption = None,
    output: Annotated[Path | None, typer.Option(help="File to write; default the screen.")] = None,
) -> None:
    """Write the best trial as YAML that is itself a configuration."""
    from search.export import best_yaml
    from training.atomic import write_atomically

    settings = load_config(config)
    name = study or settings.search.study
    store = _store()
    summary, record = summarize_study(store, name), store.read_record(name)
    if record is None:
        raise NothingFoundError(
            f"study {name!r} was not begun by Canopy, so its settings are not known"
        )
    own = name == settings.search.study
    text = best_yaml(summary, record, settings.data if own else None)
    if output is None:
        typer.echo(text, nl=False)
        return
    write_atomically(output, text.encode())
    typer.echo(f"wrote {output}; train it with: {_command('train', str(output))}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Configuration, such as best.yaml.")],
    output: Annotated[
        Path | None, typer.Option(help="Model file; default below the state folder.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Train one configuration in full, print validation and test metrics, keep the model."""
    settings = load_config(config)
    model = output or state_home() / "models" / f"{config.stem}.pt"
    from search.session import train_on_screen
    from search.training_report import print_result

    console = open_console(stderr=json_)
    result = train_on_screen(settings, state_home(), model, console)
    if json_:
        _print_json(result.as_json())
    else:
        print_result(result, console)


@app.command()
def dashboard(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; default a free one from 8080.")
    ] = None,
) -> None:
    """Browse all studies in optuna-dashboard, on this machine only, until Ctrl-C."""
    from dashboards.browse import serve_dashboard

    serve_dashboard(_store(), port, typer.echo)


@db_app.command("status")
def db_status(json_: JsonOption = False) -> None:
    """Say where the database is and whether it answers."""
    state = describe_database(state_home(), database_url())
    if json_:
        _print_json(state)
    else:
        for key, value in state.items():
            typer.echo(f"{key:<10} {value}")


@db_app.command("stop")
def db_stop() -> None:
    """Stop the embedded Postgres; the next command that needs it starts it again."""
    if database_url():
        raise SearchError(f"{DATABASE_VARIABLE} is set; that server is not ours to stop")
    stopped = embedded_postgres(state_home()).stop()
    typer.echo("stopped" if stopped else "was not running")


@db_app.command("url")
def db_url() -> None:
    """Print the URL of the database, its password masked; starts the embedded one."""
    typer.echo(open_database(state_home(), database_url()).shown_url)


def state_home() -> Path:
    """Returns the state folder."""
    return Path(os.environ.get(HOME_VARIABLE) or ".canopy").absolute()


def database_url() -> str | None:
    """Returns the URL that the environment names, if any."""
    return os.environ.get(DATABASE_VARIABLE) or None


def main() -> None:
    """Runs the command; a mistake is one line on standard error and no traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # Ctrl-C too: a script's background processes are born deaf to it, and then cannot be stopped so
    # that they can say how to go on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spin_briefly()
    try:
        app(arguments, prog_name="canopy")
    except (SearchError, DashboardError, StorageError, TrainingError) as error:
        if debug:
            raise
        typer.echo(f"canopy: {error}", err=True)
        sys.exit(error.exit_status)
    except DATABASE_FAILURES as error:
        if debug:
            raise
        typer.echo(
            f"canopy: the database went away: {failure_text(error)}; nothing is lost, the same "
            "command goes on when it is back",
            err=True,
        )
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"canopy: {where}{error.strerror or error}", err=True)
        sys.exit(1)


def _interrupt(_signal_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _store() -> StudyStore:
    return StudyStore(open_existing_database(state_home(), database_url()))


def _summary(config: CanopyConfig, study: str | None) -> StudySummary:
    return summarize_study(_store(), study or config.search.study)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def _arguments(config: Path | None, study: str | None) -> list[str]:
    options = {"--config": config, "--study": study}
    return [word for key, value in options.items() if value for word in (key, str(value))]


def _command(*words: str) -> str:
    """Returns a command as the user can type it: by its path where it is not on PATH."""
    program = Path(sys.argv[0])
    if shutil.which("canopy") == str(program):
        return shlex.join(("canopy", *words))
    shown = os.path.relpath(program) if program.is_absolute() else str(program)
    return shlex.join((shown, *words))
