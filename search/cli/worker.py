"""`canopy worker`: runs one more worker for a study."""

import typer

from canopy_search.search.cli.options import (
    DEFAULT_RETRY_FOR_MIN,
    INTERRUPTED,
    AllowMissingOption,
    ConfigOption,
    RetryForOption,
    StudyOption,
    WaitOption,
    command_text,
    open_store,
    selection,
    wait_for_study,
)
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.progress_display import open_console, open_screen
from canopy_search.search.study.configuration import load_config


def worker(
    study: StudyOption = None,
    config: ConfigOption = None,
    retry_for_min: RetryForOption = DEFAULT_RETRY_FOR_MIN,
    allow_missing: AllowMissingOption = False,
    wait: WaitOption = False,
) -> None:
    """Run one worker for a study that was started elsewhere, until no work is left.

    It needs the same DATABASE_URL, images and labels, and checkpoint location; paths may differ.
    It may join and leave at any time.
    """
    from canopy_search.search.study.join import join_plan
    from canopy_search.search.workers.placed_worker import placed_worker
    from canopy_search.search.workflows.search import work_on_screen

    settings = load_config(config, allow_missing=allow_missing)
    name = study or settings.search.study
    if (placed := placed_worker()) is not None:
        screen = open_screen(open_console())
        raise typer.Exit(placed.run(settings, name, 60 * retry_for_min, screen.emit))
    store = open_store()
    if wait:
        wait_for_study(store, name)
    plan = join_plan(
        settings,
        state_home(),
        store,
        name,
        retry_for_s=60 * retry_for_min,
    )
    if not work_on_screen(plan, database_url(), open_console()):
        again = command_text("worker", *selection(config, study))
        typer.echo(f"\nLeft; another worker resumes its trial. Rejoin with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
