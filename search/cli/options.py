"""What all commands have in common: their options, the environment, and how they print."""

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from canopy_search.search.config.settings import MOST_WORKERS, check_study_name
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.errors import SearchError
from canopy_search.search.workers.choose_backend import BackendName
from canopy_search.storage.connection.retry import DEFAULT_RETRY_FOR_S
from canopy_search.storage.database import open_existing_database
from canopy_search.storage.study.studies import StudyStore

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
_ASKS_EVERY_S = 2.0

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration; default ./canopy.yaml, else the built-in demo."),
]


def _checked_study(name: str | None) -> str | None:
    try:
        return name if name is None else check_study_name(name)
    except ValueError as error:
        raise SearchError(f"--study: {error}") from error


StudyOption = Annotated[
    str | None,
    typer.Option(
        "--study", help="Name of the study; default the configuration's.", callback=_checked_study
    ),
]
AllowMissingOption = Annotated[
    bool,
    typer.Option("--allow-missing", help="Go on however many images are missing or damaged."),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for the study where it is not begun yet.")
]
DEFAULT_PATIENCE_MIN = DEFAULT_RETRY_FOR_S / 60
PatienceOption = Annotated[
    float,
    typer.Option(
        "--database-patience",
        min=0.0,
        metavar="MINUTES",
        help="How long to wait for a database that is away, before stopping.",
    ),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        help="Worker processes here; auto is one for each GPU, two on a CPU. On other machines: "
        "the most of all.",
        metavar="N|auto",
    ),
]
OnOption = Annotated[
    BackendName,
    typer.Option(
        "--on",
        help="Where workers run: on this machine, on a Ray cluster, or as jobs of SLURM "
        "(slurm-local tries them on this machine).",
    ),
]
PartitionOption = Annotated[
    str | None, typer.Option("--partition", metavar="P", help="Of SLURM; default SLURM's own.")
]
GpusOption = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        min=1,
        metavar="N",
        help="SLURM: N jobs of a GPU each; without, --workers N jobs of one worker on a CPU.",
    ),
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        metavar="KEY=VALUE",
        help="A further option of sbatch for each job, as in account=vision or mem=16G; may be "
        "given again.",
    ),
]
HoursOption = Annotated[
    float | None,
    typer.Option(
        "--hours",
        min=0.0,
        help="Stop after so many hours; nothing is lost. With SLURM: the time limit of each job, "
        "after which another one comes.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Of the Ray cluster; default RAY_ADDRESS, else the one that runs here, else a new one "
        "on this machine (local).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def checked_workers(option: str | None, setting: int | Literal["auto"]) -> int | Literal["auto"]:
    """Returns how many workers are wanted: what the option says, else the configuration.

    Raises:
        SearchError: the option is neither a whole number from 1 on nor ``auto``.
    """
    if option is None:
        return setting
    if option == "auto":
        return "auto"
    if option.isdecimal() and 1 <= int(option) <= MOST_WORKERS:
        return int(option)
    raise SearchError(f"--workers {option}: expected auto, or a number from 1 to {MOST_WORKERS}")


def open_store() -> StudyStore:
    """Returns the studies of the database, which must be there."""
    return StudyStore(open_existing_database(state_home(), database_url()))


def wait_for_study(store: StudyStore, name: str) -> None:
    """Returns when a search has begun the study; says once that it waits.

    Raises:
        typer.Exit: somebody interrupted it.
    """
    noted = False
    try:
        while not store.is_begun(name):
            if not noted:
                typer.echo(f"study {name!r} is not begun yet; waiting (Ctrl-C ends)", err=True)
            noted = True
            time.sleep(_ASKS_EVERY_S)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def print_json(document: Any) -> None:
    """Prints JSON for programs."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def selection(config: Path | None, study: str | None) -> list[str]:
    """Returns the options that choose the same configuration and study again."""
    options = {"--config": config, "--study": study}
    return [word for key, value in options.items() if value for word in (key, str(value))]


def options_again(options: Mapping[str, Any]) -> list[str]:
    """Returns the options that a person gave, to be typed again.

    Args:
        options: their values by their names; what is empty, zero or false was not given, and one
            with a list was given again.
    """
    words: list[str] = []
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            if each:
                words += [name] if each is True else [name, str(each)]
    return words


def command_text(*words: str) -> str:
    """Returns a command as the user can type it: by its path where it is not on PATH."""
    program = Path(sys.argv[0])
    if shutil.which("canopy") == str(program):
        return shlex.join(("canopy", *words))
    shown = os.path.relpath(program) if program.is_absolute() else str(program)
    return shlex.join((shown, *words))
