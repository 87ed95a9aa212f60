"""`canopy search`: starts or resumes a study."""

from dataclasses import dataclass
from typing import Annotated

import typer

from canopy_search.search.cli.option_group import takes, typed_again
from canopy_search.search.cli.options import INTERRUPTED, LaunchOptions, command_text
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.console import open_console, say


@dataclass(frozen=True, kw_only=True)
class SearchOptions(LaunchOptions):
    """Options of `canopy search`."""

    trials: Annotated[
        int | None, typer.Option(min=1, help="Total of finished trials of the study.")
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything a search needs, and start nothing."),
    ] = False


@takes(SearchOptions)
def search(options: SearchOptions) -> None:
    """Search until the study has all its trials; the same command resumes after a stop."""
    requested = options.request()
    settings = requested.configuration.settings
    elsewhere = options.placement()
    options.wait_for_database()
    if not options.dry_run:
        from canopy_search.search.workers.forkserver import warm_up

        warm_up()
    from canopy_search.search.cli.diary import note_diary_problem, write_after_search
    from canopy_search.search.workflows.dry_run import try_on_screen
    from canopy_search.search.workflows.run_study import SearchRequest
    from canopy_search.search.workflows.search import search_until_done

    limits = options.limits(settings.search.workers, elsewhere)
    request = SearchRequest(
        requested.workspace,
        requested.configuration,
        requested.study,
        options.trials or settings.search.trials,
        limits,
    )
    if options.dry_run:
        try_on_screen(request, open_console())
        return
    note_diary_problem(settings.search.diary, request.study)
    if not search_until_done(request, open_console()):
        again = command_text("search", *typed_again(options))
        say("", f"Interrupted; nothing is lost. Resume with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
    write_after_search(settings.search.diary, request.study)
    _print_next_steps(options, settings)


def _print_next_steps(options: SearchOptions, settings: CanopyConfig) -> None:
    selected = options.selection
    data = ["--allow-missing"] if options.allow_missing else []
    confirm = command_text("confirm", *selected, *data)
    steps = {
        confirm: "train the best again with additional seeds, and test",
        command_text("best", *selected, "--output", "best.yaml"): "the best configuration as YAML",
        command_text("train", "best.yaml", *data): "train it fully, test it, keep the model",
        command_text("report", *selected): "everything the search found, in one HTML file",
        command_text("diary", *selected): "the search as a diary, with room for your notes",
        command_text("dashboard"): "browse the study",
    }
    if settings.confirm is not None:
        del steps[confirm]
    if settings.search.diary is not None:
        del steps[command_text("diary", *selected)]
    width = max(len(command) for command in steps)
    say("Next:")
    for command, meaning in steps.items():
        say(f"  {command:<{width}}  {meaning}")
