"""What commands share: options, environment and output."""

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

from canopy_search.filestore.retry import RetryPolicy
from canopy_search.search.config.settings import MOST_WORKERS, check_study_name
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.errors import SearchError
from canopy_search.search.workers.choose_backend import BackendName
from canopy_search.storage.database import open_existing_database
from canopy_search.storage.study.studies import StudyStore

INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""
_POLL_S = 2.0

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration; default: ./canopy.yaml, else the built-in demo."),
]


def _checked_study(name: str | None) -> str | None:
    try:
        return name if name is None else check_study_name(name)
    except ValueError as error:
        raise SearchError(f"--study: {error}") from error


StudyOption = Annotated[
    str | None,
    typer.Option(
        "--study",
        help="Name of the study; default: from the configuration.",
        callback=_checked_study,
    ),
]
AllowMissingOption = Annotated[
    bool,
    typer.Option("--allow-missing", help="Accept any number of missing or damaged images."),
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until the study has started.")]
DEFAULT_RETRY_FOR_MIN = RetryPolicy.limit_s / 60
RetryForOption = Annotated[
    float,
    typer.Option(
        "--database-patience",
        min=0.0,
        metavar="MINUTES",
        help="How long to retry an unavailable database before stopping.",
    ),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        help="Worker processes on this machine; auto: one per GPU, two on a CPU. With --on ray or "
        "slurm: the maximum in total.",
        metavar="N|auto",
    ),
]
OnOption = Annotated[
    BackendName,
    typer.Option(
        "--on",
        help="Where workers run: on this machine, on a Ray cluster, or as jobs of SLURM "
        "(slurm-local runs the jobs on this machine).",
    ),
]
PartitionOption = Annotated[
    str | None,
    typer.Option("--partition", metavar="P", help="SLURM: partition; default: SLURM's own."),
]
GpusOption = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        min=1,
        metavar="N",
        help="SLURM: N jobs with one GPU each; without it, --workers jobs of one CPU worker each.",
    ),
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        metavar="KEY=VALUE",
        help="SLURM: another sbatch option for each job, such as account=vision or mem=16G; "
        "repeatable.",
    ),
]
HoursOption = Annotated[
    float | None,
    typer.Option(
        "--hours",
        min=0.0,
        help="Stop after this many hours; nothing is lost. With SLURM: the time limit of each job, "
        "after which another job follows.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Ray cluster; default: RAY_ADDRESS, else a cluster running here, else a new one on "
        "this machine (local).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def checked_workers(option: str | None, setting: int | Literal["auto"]) -> int | Literal["auto"]:
    """Returns the number of workers: from the option, else from the configuration.

    Raises:
        SearchError: the option is neither ``auto`` nor a whole number from 1 to `MOST_WORKERS`.
    """
    if option is None:
        return setting
    if option == "auto":
        return "auto"
    if option.isdecimal() and 1 <= int(option) <= MOST_WORKERS:
        return int(option)
    raise SearchError(f"--workers {option}: expected auto, or a number from 1 to {MOST_WORKERS}")


def open_store() -> StudyStore:
    """Returns the studies of the database, which must exist."""
    return StudyStore(open_existing_database(state_home(), database_url()))


def wait_for_study(store: StudyStore, name: str) -> None:
    """Returns when a search has started the study; prints once that it is waiting.

    Raises:
        typer.Exit: the user interrupted it.
    """
    is_noted = False
    try:
        while not store.is_started(name):
            if not is_noted:
                typer.echo(f"study {name!r} has not started yet; waiting (Ctrl-C stops)", err=True)
            is_noted = True
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def print_json(document: Any) -> None:
    """Prints JSON for programs."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def selection(config: Path | None, study: str | None) -> list[str]:
    """Returns the options that select the same configuration and study."""
    options = {"--config": config, "--study": study}
    return [word for key, value in options.items() if value for word in (key, str(value))]


def options_again(options: Mapping[str, Any]) -> list[str]:
    """Returns the options that the user gave, to be typed again.

    Args:
        options: option → value; an empty, zero or false value was not given, and a list was
            given once per item.
    """
    words: list[str] = []
    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            if item:
                words += [name] if item is True else [name, str(item)]
    return words


def command_text(*words: str) -> str:
    """Returns a command as the user can type it: with its path if it is not on PATH."""
    program = Path(sys.argv[0])
    if shutil.which("canopy") == str(program):
        return shlex.join(("canopy", *words))
    shown = os.path.relpath(program) if program.is_absolute() else str(program)
    return shlex.join((shown, *words))
