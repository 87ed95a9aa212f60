"""All studies of the database: list, remove, rename, copy and archive them."""

import sys
from contextlib import closing
from typing import Annotated

import typer

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.cli.lazy_group import plain_typer
from canopy_search.search.cli.options import (
    ConfigOption,
    JsonOption,
    print_json,
    requested,
    workspace,
)
from canopy_search.search.config.settings import check_study_name
from canopy_search.search.console import open_console, say
from canopy_search.search.errors import SearchError
from canopy_search.storage.catalogue import Belongings


def _checked_name(name: str) -> str:
    try:
        return check_study_name(name)
    except ValueError as error:
        raise SearchError(f"NEW: {error}") from error


StudyArgument = Annotated[str, typer.Argument(metavar="NAME", help="The study.")]
NewNameArgument = Annotated[
    str, typer.Argument(metavar="NEW", help="The new name.", callback=_checked_name)
]

group = plain_typer(__doc__)


@group.callback(invoke_without_command=True, no_args_is_help=False)
def _list(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="List archived studies, too.")] = False,
    json_: JsonOption = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from canopy_search.dashboards.study.listing import list_studies
    from canopy_search.dashboards.terminal.studies import studies_table

    with closing(workspace().open_existing()) as database:
        found = list_studies(database)
    studies = [each for each in found if all_ or not each.is_archived]
    if json_:
        print_json([each.as_json() for each in studies])
        return
    if studies:
        open_console().print(studies_table(studies))
    if not found:
        say("there are no studies yet; start one with: canopy search")
    if hidden := len(found) - len(studies):
        say(f"{hidden} archived; list all with: canopy studies --all")


@group.command()
def rm(
    name: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it without asking.")] = False,
    config: ConfigOption = None,
) -> None:
    """Remove a study with all that belongs to it alone; ClearML keeps its tasks."""
    from canopy_search.search.workflows.studies import removable, remove_study

    request = requested(config, name)
    if not yes:
        what = _text(name, removable(request))
        if not sys.stdin.isatty():
            raise SearchError(f"this would remove {what}; to remove it, add --yes")
        typer.confirm(f"Remove {what}?", abort=True)
    removed = _text(name, remove_study(request))
    say(f"removed {removed}; its tasks in ClearML, if there are any, are left as they are")


def _text(name: str, found: Belongings) -> str:
    confirmation = "".join(f" and its confirmation {other}" for other in found.studies[1:])
    return (
        f"study {name}{confirmation}: {counted(found.trials, 'trial')}, and "
        f"{counted(len(found.stages), 'epoch')} that no other study has"
    )


@group.command()
def rename(name: StudyArgument, new_name: NewNameArgument) -> None:
    """Rename a study."""
    from canopy_search.search.workflows.studies import rename_study

    rename_study(workspace(), name, new_name)
    say(f"study {name} is now called {new_name}")


@group.command()
def copy(
    name: StudyArgument,
    new_name: NewNameArgument,
    to: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Another database, which gets its epochs, too."),
    ] = None,
) -> None:
    """Copy a study, in the database or to another one; its confirmation stays."""
    from canopy_search.search.workflows.studies import copy_study

    place = copy_study(workspace(), name, new_name, to)
    say(f"study {name} is copied to {new_name}{f' in {place}' if place else ''}")


@group.command()
def archive(
    name: StudyArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Take it out of the archive.")] = False,
    config: ConfigOption = None,
) -> None:
    """Keep a study as it is: hidden, not to be changed, and without its checkpoints."""
    from canopy_search.search.workflows.studies import archive_study, restore_study

    if undo:
        restore_study(workspace(), name)
        say(f"study {name} is no longer archived")
        return
    archive_study(requested(config, name))
    say(f"study {name} is archived; its checkpoints are removed, its results are kept")
