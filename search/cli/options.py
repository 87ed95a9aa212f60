"""What commands share: options, environment and output."""

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from canopy_search.filestore.retry import RetryPolicy
from canopy_search.search.cli.option_group import typed_again
from canopy_search.search.config.settings import MOST_WORKERS, check_study_name
from canopy_search.search.console import say, write
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.errors import SearchError
from canopy_search.search.study.configuration import load_config
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.choose_backend import OF_EACH_JOB, BackendName, placement
from canopy_search.storage.connection.urls import check_reachable, parse_database_url
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace

if TYPE_CHECKING:
    from canopy_search.search.workers.backend import Placement
    from canopy_search.search.workflows.run_study import Limits

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
RetryForOption = Annotated[
    float | None,
    typer.Option(
        "--database-patience",
        min=0.0,
        metavar="MINUTES",
        help="How long to retry an unavailable database before stopping "
        f"({RetryPolicy().limit_s / 60:g}); if given, also at the start.",
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


def requested(
    config: Path | None, study: str | None = None, *, allow_missing: bool = False
) -> StudyRequest:
    """Reads the configuration, and returns what a command is about.

    Args:
        config: the file; None for the default one.
        study: name of the study; None for the configuration's.
        allow_missing: whether any number of images may be missing or damaged.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    configuration = load_config(config, allow_missing=allow_missing)
    return StudyRequest(workspace(), configuration, study or configuration.settings.search.study)


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Which study a command is about."""

    config: ConfigOption = None
    study: StudyOption = None

    @property
    def name(self) -> str:
        """The study's name; the configuration is read only if it has to name the study."""
        return self.study or load_config(self.config).settings.search.study

    @property
    def selection(self) -> list[str]:
        """The options that select the same study in another command."""
        return typed_again(StudyOptions(config=self.config, study=self.study))

    def request(self) -> StudyRequest:
        """Returns what the command is about; see `requested`."""
        return requested(self.config, self.study)


@dataclass(frozen=True, kw_only=True)
class DataOptions(StudyOptions):
    """A study whose images and labels a command opens."""

    allow_missing: AllowMissingOption = False

    def request(self) -> StudyRequest:
        """Returns what the command is about; see `requested`."""
        return requested(self.config, self.study, allow_missing=self.allow_missing)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(DataOptions):
    """A study that a command trains for hours."""

    retry_for_min: RetryForOption = None

    def request(self) -> StudyRequest:
        """Returns what the command is about, with the user's patience with the database."""
        request = super().request()
        if self.retry_for_min is None:
            return request
        retry = RetryPolicy(60 * self.retry_for_min)
        return replace(request, workspace=replace(request.workspace, retry=retry))

    def wait_for_database(self) -> None:
        """Waits for an unavailable database if the user has said how long.

        Otherwise the command fails at once, because the address may be wrong.

        Raises:
            DatabaseUnavailableError: it was unavailable for too long.
        """
        url = database_url()
        if self.retry_for_min is None or url is None:
            return
        server, retry = parse_database_url(url), RetryPolicy(60 * self.retry_for_min)
        retrier = replace(workspace(), retry=retry).retrier(partial(say, err=True))
        retrier.call(lambda: check_reachable(server))


@dataclass(frozen=True, kw_only=True)
class LaunchOptions(WorkerOptions):
    """A study that a command launches workers for."""

    workers: WorkersOption = None
    on: OnOption = BackendName.LOCAL
    address: AddressOption = None
    partition: PartitionOption = None
    gpus: GpusOption = None
    slurm: SlurmOption = None
    hours: HoursOption = None

    def placement(self) -> "Placement | None":
        """Returns the backend on other machines; None for this machine.

        Raises:
            PlacementError: an option belongs to another backend, or the backend is not installed.
        """
        options = {
            "--address": self.address,
            "--partition": self.partition,
            "--gpus": self.gpus,
            "--slurm": self.slurm,
        }
        workers = checked_workers(self.workers, "auto")
        return placement(self.on, workers, options, hours=self.hours)

    def limits(self, workers: int | Literal["auto"], elsewhere: "Placement | None") -> "Limits":
        """Returns the limits of the search.

        Args:
            workers: the configuration's number of workers.
            elsewhere: what `placement` returned.
        """
        from canopy_search.search.workflows.run_study import Limits

        hours = None if self.on in OF_EACH_JOB else self.hours
        return Limits(checked_workers(self.workers, workers), hours, elsewhere)


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


def workspace() -> Workspace:
    """Returns the workspace that the environment names."""
    return Workspace(state_home(), database_url())


def open_store(*, writes: bool = False) -> StudyStore:
    """Returns the studies of the database, which must exist; one who writes makes its tables."""
    return StudyStore(workspace().open_existing(writes=writes))


def wait_for_study(store: StudyStore, name: str) -> None:
    """Returns when a search has started the study; see `wait_until`."""
    wait_until(lambda: store.is_started(name), f"study {name!r} has not started yet")


def wait_until(is_there: Callable[[], bool], missing: str) -> None:
    """Returns when `is_there` returns true; prints once what is missing.

    Raises:
        typer.Exit: the user interrupted it.
    """
    is_noted = False
    try:
        while not is_there():
            if not is_noted:
                say(f"{missing}; waiting (Ctrl-C stops)", err=True)
            is_noted = True
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def print_json(document: Any) -> None:
    """Prints JSON for programs."""
    write(f"{json.dumps(document, indent=2, allow_nan=False)}\n")


def command_text(*words: str) -> str:
    """Returns a command as the user can type it: with its path if it is not on PATH."""
    program = Path(sys.argv[0])
    if shutil.which("canopy") == str(program):
        return shlex.join(("canopy", *words))
    shown = os.path.relpath(program) if program.is_absolute() else str(program)
    return shlex.join((shown, *words))
