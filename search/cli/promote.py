"""`canopy promote`: trains pruned trials until their last epoch."""

from dataclasses import dataclass
from typing import Annotated

import typer

from canopy_search.search.cli.option_group import takes, typed_again
from canopy_search.search.cli.options import INTERRUPTED, DataOptions, command_text
from canopy_search.search.console import open_console, say


@dataclass(frozen=True, kw_only=True)
class PromoteOptions(DataOptions):
    """Arguments and options of `canopy promote`."""

    trials: Annotated[list[int], typer.Argument(min=0, help="Numbers of pruned trials.")]


@takes(PromoteOptions)
def promote(options: PromoteOptions) -> None:
    """Train pruned trials until their last epoch, from where they stopped."""
    from canopy_search.search.workflows.promote import promote_on_screen

    numbers = list(dict.fromkeys(options.trials))
    if not promote_on_screen(options.request(), numbers, open_console()):
        again = command_text("promote", *typed_again(options))
        say("", f"Interrupted; nothing is lost. Resume with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
