"""`canopy mirror`: mirrors a study to ClearML."""

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

import typer

from canopy_search.search.cli.option_group import takes, typed_again
from canopy_search.search.cli.options import (
    StudyOptions,
    WaitOption,
    command_text,
    wait_for_study,
)
from canopy_search.search.console import say
from canopy_search.search.errors import MirrorError
from canopy_search.storage.study.studies import StudyStore


@dataclass(frozen=True, kw_only=True)
class MirrorOptions(StudyOptions):
    """Options of `canopy mirror`."""

    follow: Annotated[
        bool,
        typer.Option("--follow", help="Run until the study is over and mirrored, or Ctrl-C."),
    ] = False
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Recreate tasks that were deleted on the server.")
    ] = False
    wait: WaitOption = False


@takes(MirrorOptions)
def mirror(options: MirrorOptions) -> None:
    """Send to ClearML what its server does not have yet. Runs on any machine, at any time."""
    from canopy_search.dashboards.clearml.credentials import HOW_TO
    from canopy_search.dashboards.clearml.mirror import MirrorEvents
    from canopy_search.dashboards.clearml.runner import BUSY, Follower, mirror_once
    from canopy_search.dashboards.errors import TrackerUnavailableError
    from canopy_search.search.workflows.mirror.process import mirror_plan

    request = options.request()
    name = request.study
    with closing(request.workspace.open_existing(writes=True)) as database:
        store = StudyStore(database)
        if not options.wait:
            store.study_id(name)
        plan = mirror_plan(request, database, is_live=options.follow, recreate=options.recreate)
        if plan is None or not plan.tracker.is_usable:
            missing = " and ".join(plan.tracker.missing) if plan else ""
            what = f"{missing} missing" if missing else "not configured"
            raise MirrorError(f"ClearML: {what}; {HOW_TO}")
        if options.wait:
            wait_for_study(store, name)
        counter = _Counter()
        again = command_text("mirror", *typed_again(options))
        try:
            events = MirrorEvents(lambda text: say(text, err=True), counter.count)
            if options.follow:
                status = Follower(database, plan, events, _wait).run()
            else:
                status = mirror_once(database, plan, events)
        except TrackerUnavailableError as error:
            raise MirrorError(
                f"ClearML at {plan.server}: {error}; {counter.sent} tasks were sent; "
                f"resume with: {again}"
            ) from error
        except KeyboardInterrupt:
            say("", f"Interrupted; resume with: {again}", err=True)
            raise typer.Exit(130) from None
    if status is None:
        say(BUSY)
        return
    parts = [f"{status.mirrored} tasks are up to date", f"{status.sent} were sent"]
    if status.behind:
        parts.append(f"{status.behind} are behind")
    if status.gone:
        parts.append(f"{status.gone} were deleted on the server (--recreate creates them again)")
    say(f"study {name} at {plan.server}: {', '.join(parts)}")
    if status.rejected:
        raise MirrorError(f"ClearML: {status.rejected}")


class _Counter:
    """Counts the tasks that received data."""

    def __init__(self) -> None:
        self.sent = 0

    def count(self) -> None:
        """Counts one more task."""
        self.sent += 1


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False
