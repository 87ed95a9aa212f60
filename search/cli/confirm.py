"""`canopy confirm`: retrain the finalists and the baseline with additional seeds, and test."""

from dataclasses import dataclass
from typing import Annotated

import typer

from canopy_search.search.cli.option_group import takes, typed_again
from canopy_search.search.cli.options import (
    INTERRUPTED,
    JsonOption,
    LaunchOptions,
    command_text,
    open_store,
    print_json,
)
from canopy_search.search.config.settings import MOST_SEEDS, ConfirmSettings
from canopy_search.search.console import open_console, say


@dataclass(frozen=True, kw_only=True)
class ConfirmOptions(LaunchOptions):
    """Options of `canopy confirm`."""

    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Finalists; default: confirm.top, else 3."),
    ] = None
    seeds: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=MOST_SEEDS,
            metavar="S",
            help="Additional seeds of each; default: confirm.seeds, else 5.",
        ),
    ] = None
    json_: JsonOption = False


@takes(ConfirmOptions)
def confirm(options: ConfirmOptions) -> None:
    """Train the best settings and baseline with additional seeds, choose by the mean, and test.

    Results are kept: the same command shows them again, and resumes after a stop.
    """
    requested = options.request()
    settings = requested.configuration.settings
    elsewhere = options.placement()
    options.wait_for_database()
    open_store()  # fails if there is no database
    from canopy_search.search.workers.forkserver import warm_up

    warm_up()
    from canopy_search.search.workflows.confirm import (
        ConfirmRequest,
        confirm_on_screen,
        print_confirmation,
    )

    default = settings.confirm or ConfirmSettings()
    request = ConfirmRequest(
        requested.workspace,
        requested.configuration,
        requested.study,
        ConfirmSettings(top=options.top or default.top, seeds=options.seeds or default.seeds),
        options.limits(settings.search.workers, elsewhere),
    )
    console = open_console(stderr=options.json_)
    outcome = confirm_on_screen(request, console)
    if outcome is None:
        again = command_text("confirm", *typed_again(options))
        say("", f"Interrupted; nothing is lost. Resume with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
    if options.json_:
        print_json(outcome.confirmation.as_json())
        return
    print_confirmation(outcome, console)
    if outcome.confirmation.winner is not None:
        best = command_text("best", *options.selection, "--output", "best.yaml")
        say("Next:", f"  {best}  the winner as YAML")
