"""`canopy worker`: runs one more worker for a study."""

from dataclasses import dataclass

import typer

from canopy_search.search.cli.option_group import takes, typed_again
from canopy_search.search.cli.options import (
    INTERRUPTED,
    WaitOption,
    WorkerOptions,
    command_text,
    open_store,
    wait_for_study,
)
from canopy_search.search.console import open_console, say
from canopy_search.search.progress_display import open_screen


@dataclass(frozen=True, kw_only=True)
class JoinOptions(WorkerOptions):
    """Options of `canopy worker`."""

    wait: WaitOption = False


@takes(JoinOptions)
def worker(options: JoinOptions) -> None:
    """Run one worker for a study that was started elsewhere, until no work is left.

    It needs the same DATABASE_URL, images and labels, and checkpoint location; paths may differ.
    It may join and leave at any time.
    """
    from canopy_search.search.study.join import join_plan
    from canopy_search.search.workers.placed_worker import placed_worker
    from canopy_search.search.workflows.search import work_on_screen

    request = options.request()
    if (placed := placed_worker()) is not None:
        raise typer.Exit(placed.run(request, open_screen(open_console()).emit))
    options.wait_for_database()
    store = open_store(writes=True)
    if options.wait:
        wait_for_study(store, request.study)
    plan = join_plan(request, store)
    if not work_on_screen(plan, open_console()):
        again = command_text("worker", *typed_again(options))
        say("", f"Left; another worker resumes its trial. Rejoin with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
