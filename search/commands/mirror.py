"""The command that mirrors a study to ClearML."""

import time
from contextlib import closing
from typing import Annotated

import typer

from canopy_search.search.command_line import (
    ConfigOption,
    StudyOption,
    WaitOption,
    command_text,
    database_url,
    open_store,
    selection,
    state_home,
    wait_for_study,
)
from canopy_search.search.config import load_config
from canopy_search.search.errors import MirrorError
from canopy_search.storage.database import open_database
from canopy_search.storage.studies import StudyStore


def mirror(
    config: ConfigOption = None,
    study: StudyOption = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Go on until the study is over and mirrored, or Ctrl-C."),
    ] = False,
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Make tasks again that were deleted on the server.")
    ] = False,
    wait: WaitOption = False,
) -> None:
    """Mirror a study to ClearML: what its server does not have yet. On any machine, at any time."""
    from canopy_search.dashboards.clearml.configured import HOW_TO
    from canopy_search.dashboards.clearml.following import BUSY, Follower, mirror_once
    from canopy_search.dashboards.errors import TrackerAwayError
    from canopy_search.search.mirror_process import mirror_plan

    settings = load_config(config)
    name = study or settings.search.study
    open_store()  # there must be something already
    with closing(open_database(state_home(), database_url())) as database:
        store = StudyStore(database)
        if not wait:
            store.study_id(name)
        plan = mirror_plan(
            settings, state_home(), name, database, is_live=follow, recreate=recreate
        )
        if plan is None or not plan.tracker.is_usable:
            missing = " and ".join(plan.tracker.missing) if plan else ""
            what = f"{missing} missing" if missing else "not configured"
            raise MirrorError(f"ClearML: {what}; {HOW_TO}")
        if wait:
            wait_for_study(store, name)
        counter = _Counter()
        again = command_text("mirror", *selection(config, study))
        try:
            if follow:
                standing = Follower(
                    database,
                    plan,
                    note=lambda text: typer.echo(text, err=True),
                    wait=_wait,
                    after_task=counter.count,
                ).run()
            else:
                standing = mirror_once(
                    database, plan, lambda text: typer.echo(text, err=True), counter.count
                )
        except TrackerAwayError as error:
            raise MirrorError(
                f"ClearML at {plan.server}: {error}; {counter.sent} tasks were sent, and "
                f"{again} goes on"
            ) from error
        except KeyboardInterrupt:
            typer.echo(f"\nends; go on with: {again}", err=True)
            raise typer.Exit(130) from None
    if standing is None:
        typer.echo(BUSY)
        return
    parts = [f"{standing.mirrored} tasks are as they should be", f"{standing.sent} were sent"]
    if standing.behind:
        parts.append(f"{standing.behind} are behind")
    if standing.gone:
        parts.append(f"{standing.gone} were deleted on the server (--recreate makes them again)")
    typer.echo(f"study {name} at {plan.server}: {', '.join(parts)}")
    if standing.rejected:
        raise MirrorError(f"ClearML: {standing.rejected}")


class _Counter:
    """Counts the tasks that were sent something."""

    def __init__(self) -> None:
        self.sent = 0

    def count(self) -> None:
        """One more."""
        self.sent += 1


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False
