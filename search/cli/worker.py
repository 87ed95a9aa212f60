"""Commands about the workers of a study: one more of them, a pause, an end."""

import typer

from canopy_search.search.cli.options import (
    DEFAULT_PATIENCE_MIN,
    INTERRUPTED,
    AllowMissingOption,
    ConfigOption,
    PatienceOption,
    StudyOption,
    WaitOption,
    command_text,
    open_store,
    selection,
    wait_for_study,
)
from canopy_search.search.environment import database_url, state_home
from canopy_search.search.progress_display import open_console
from canopy_search.search.study.configuration import load_config


def worker(
    study: StudyOption = None,
    config: ConfigOption = None,
    database_patience: PatienceOption = DEFAULT_PATIENCE_MIN,
    allow_missing: AllowMissingOption = False,
    wait: WaitOption = False,
) -> None:
    """Work on a study that was begun elsewhere, in this process, until nothing is left to do.

    It needs the same DATABASE_URL, the same images and labels, and the same place of checkpoints;
    paths may differ. It may come and leave at any time.
    """
    from canopy_search.search.study.join import join_plan
    from canopy_search.search.workflows.search import work_on_screen

    settings = load_config(config, allow_missing=allow_missing)
    name = study or settings.search.study
    store = open_store()
    if wait:
        wait_for_study(store, name)
    plan = join_plan(
        settings,
        state_home(),
        store,
        name,
        retry_for_s=60 * database_patience,
    )
    if not work_on_screen(plan, database_url(), open_console()):
        again = command_text("worker", *selection(config, study))
        typer.echo(f"\nLeft; what it was at goes on elsewhere. Come back with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
