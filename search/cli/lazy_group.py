"""The commands of `canopy`, each imported only when it is called: torch and Optuna take seconds."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class CommandEntry:
    """Where a command is, and what the list of commands says of it.

    Attributes:
        help: first paragraph of the command's docstring, or of its group's help.
        module: of this folder; None for the one that is called like the command.
        attribute: of the module: a function, or the `typer.Typer` of a group. None for the
            function that is called like the command.
    """

    help: str
    module: str | None = None
    attribute: str | None = None


COMMANDS = {
    "init": CommandEntry(
        "Look at labels and images, say what is there, and write a canopy.yaml that fits."
    ),
    "plan": CommandEntry(
        "Say what a search will take: time, disk, memory. It measures this machine and begins none."
    ),
    "search": CommandEntry(
        "Search until the study has its trials; the same command goes on after a stop."
    ),
    "worker": CommandEntry(
        "Work on a study that was begun elsewhere, in this process, until nothing is left to do."
    ),
    "status": CommandEntry(
        "Say how far the study is, who works on it, what it cost, and what went wrong."
    ),
    "trials": CommandEntry("List the study's trials, or those of a kind."),
    "confirm": CommandEntry(
        "Train the best settings and the baseline with further seeds, choose by the mean, and test."
    ),
    "best": CommandEntry("Write the best trial as YAML that is itself a configuration."),
    "compare": CommandEntry(
        "Put trials side by side: settings, metrics, verdicts, curves, AP of each label."
    ),
    "export": CommandEntry(
        "Write all trials with all metrics of every epoch: CSV, Parquet or JSON."
    ),
    "train": CommandEntry(
        "Train one configuration in full, print validation and test metrics, keep the model."
    ),
    "predict": CommandEntry(
        "Write tags and probabilities of images: JSON, or CSV that is a label file."
    ),
    "dashboard": CommandEntry(
        "Browse all studies in optuna-dashboard, on this machine only, until Ctrl-C."
    ),
    "pause": CommandEntry(
        "Let all workers of a study finish the epoch that they are at, and wait, on any machine.",
        module="control",
    ),
    "resume": CommandEntry("Let the workers of a study that pauses go on.", module="control"),
    "stop": CommandEntry(
        "End a study on all machines; what it has found stays, and canopy search begins it again.",
        module="control",
    ),
    "mirror": CommandEntry(
        "Mirror a study to ClearML: what its server does not have yet. On any machine, at any time."
    ),
    "promote": CommandEntry(
        "Give pruned trials the rest of their epochs, from where they stopped."
    ),
    "tabulate": CommandEntry(
        "Train every point of a finite space to the end, and write all learning curves."
    ),
    "simulate": CommandEntry(
        "Replay searches on known learning curves, and compare samplers and pruners."
    ),
    "report": CommandEntry(
        "Write what the study has found as one HTML file that needs nothing else."
    ),
    "diary": CommandEntry(
        "Write the study as a diary: what was tried in which order, and what came of it."
    ),
    "doctor": CommandEntry(
        "Check all that a search needs; exit status 0: all is well, 1: a warning, 2: an error."
    ),
    "db": CommandEntry("The database that studies lie in.", attribute="group"),
    "stages": CommandEntry("Epochs that trials share, and their checkpoints.", attribute="group"),
}


class LazyGroup(TyperGroup):
    """A group whose commands are names and lines of help until one of them is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the name, the command itself and the arguments that are left for it."""
        name, _listed, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """Imports a command of `COMMANDS` and returns it as Click's."""
    entry = COMMANDS[name]
    module = import_module(f"canopy_search.search.cli.{entry.module or name}")
    found = getattr(module, entry.attribute or name)
    if not isinstance(found, typer.Typer):
        alone = plain_typer()
        alone.command(name)(found)
        return get_command(alone)
    return get_command(found)


def lazy_typer(text: str) -> typer.Typer:
    """Returns `canopy` with all its commands, none of which is imported.

    Args:
        text: what its help begins with.
    """
    app = plain_typer(text, cls=LazyGroup)
    for name, entry in COMMANDS.items():
        app.command(name, help=entry.help)(_imported_when_called)
    return app


def plain_typer(text: str | None = None, cls: type[TyperGroup] | None = None) -> typer.Typer:
    """Returns an empty application that prints as all of `canopy` does.

    Args:
        text: its help.
        cls: of its group.
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
    """Stands in the list of commands."""
