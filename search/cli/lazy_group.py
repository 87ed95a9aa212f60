"""The commands of `canopy`, imported only when called: torch and Optuna take seconds to import."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class CommandEntry:
    """Where a command is defined, and its help in the list of commands.

    Attributes:
        help: first paragraph of the command's docstring, or of its group's help.
        module: a module of this folder; None for the one named like the command.
        attribute: of the module: a function, or the `typer.Typer` of a group. None for the
            function named like the command.
    """

    help: str
    module: str | None = None
    attribute: str | None = None


COMMANDS = {
    "init": CommandEntry(
        "Inspect labels and images, report what they contain, and write a matching canopy.yaml."
    ),
    "plan": CommandEntry(
        "Estimate the time, disk and memory of a search. Measures this machine, starts no search."
    ),
    "search": CommandEntry(
        "Search until the study has all its trials; the same command resumes after a stop."
    ),
    "worker": CommandEntry(
        "Run one worker for a study that was started elsewhere, until no work is left."
    ),
    "status": CommandEntry("Show the study's progress, active workers, cost and failures."),
    "trials": CommandEntry("List the study's trials, all or filtered."),
    "confirm": CommandEntry(
        "Train the best settings and baseline with additional seeds, choose by the mean, and test."
    ),
    "best": CommandEntry("Write the best trial as a YAML configuration."),
    "compare": CommandEntry(
        "Compare trials side by side: settings, metrics, differences, curves, AP per label."
    ),
    "export": CommandEntry(
        "Write all trials with all metrics of every epoch: CSV, Parquet or JSON."
    ),
    "train": CommandEntry(
        "Train one configuration in full, print validation and test metrics, keep the model."
    ),
    "predict": CommandEntry(
        "Predict tags and probabilities of images: JSON, or CSV that is a valid label file."
    ),
    "dashboard": CommandEntry(
        "Browse all studies in optuna-dashboard, on this machine only, until Ctrl-C."
    ),
    "pause": CommandEntry(
        "Pause all workers of a study, on all machines, after their current epoch.",
        module="control",
    ),
    "resume": CommandEntry("Resume the workers of a paused study.", module="control"),
    "stop": CommandEntry(
        "Stop a study on all machines; results are kept, and canopy search resumes it.",
        module="control",
    ),
    "mirror": CommandEntry(
        "Send to ClearML what its server does not have yet. Runs on any machine, at any time."
    ),
    "promote": CommandEntry("Train pruned trials until their last epoch, from where they stopped."),
    "tabulate": CommandEntry(
        "Train every point of a finite space fully, and write all learning curves."
    ),
    "simulate": CommandEntry(
        "Replay searches on known learning curves, and compare samplers and pruners."
    ),
    "report": CommandEntry("Write everything the study found, in one self-contained HTML file."),
    "diary": CommandEntry(
        "Write a diary of the study: what was tried, in which order, with which results."
    ),
    "doctor": CommandEntry(
        "Check everything a search needs; exit status 0: no problem, 1: a warning, 2: an error."
    ),
    "db": CommandEntry("The studies' database.", attribute="group"),
    "stages": CommandEntry("Epochs that trials share, and their checkpoints.", attribute="group"),
}


class LazyGroup(TyperGroup):
    """A group that knows only the names and help of its commands until one is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the name, the command itself and its remaining arguments."""
        name, _listed, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """Imports a command of `COMMANDS` and returns it as a Click command."""
    entry = COMMANDS[name]
    module = import_module(f"canopy_search.search.cli.{entry.module or name}")
    found = getattr(module, entry.attribute or name)
    if not isinstance(found, typer.Typer):
        app = plain_typer()
        app.command(name)(found)
        return get_command(app)
    return get_command(found)


def lazy_typer(text: str) -> typer.Typer:
    """Returns `canopy` with all its commands, without importing any.

    Args:
        text: the start of its help.
    """
    app = plain_typer(text, cls=LazyGroup)
    for name, entry in COMMANDS.items():
        app.command(name, help=entry.help)(_imported_when_called)
    return app


def plain_typer(text: str | None = None, cls: type[TyperGroup] | None = None) -> typer.Typer:
    """Returns an empty application with the output settings of `canopy`.

    Args:
        text: its help.
        cls: class of its group.
    """
    return typer.Typer(
        name="canopy",
        cls=cls,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def _imported_when_called() -> None:
    """Placeholder in the list of commands."""
