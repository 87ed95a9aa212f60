"""A search or a training run from start to end, with what a person sees of it."""

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from canopy_search.dashboards.formatting.tables import counts_text, spent_text, trials_table
from canopy_search.dashboards.study.finalists import finalists_at_hand
from canopy_search.dashboards.study.reader import read_study
from canopy_search.dashboards.study.summary import StudySummary
from canopy_search.search.config.settings import CanopyConfig, ConfirmSettings
from canopy_search.search.progress_display import open_screen
from canopy_search.search.study.plan import SearchPlan, plan_search
from canopy_search.search.workers.graceful_exit import leaving_in_time
from canopy_search.search.workers.process import search_in_study
from canopy_search.search.workflows.confirm import confirm_on_screen, print_confirmation
from canopy_search.search.workflows.run_study import Limits, SearchEnd, run_search
from canopy_search.storage.database import open_database
from canopy_search.storage.study.studies import StudyStore


def search_until_done(  # noqa: PLR0917 - what a search needs
    config: CanopyConfig,
    home: Path,
    url: str | None,
    study: str,
    n_trials: int,
    console: Console,
    *,
    limits: Limits,
    retry_for_s: float,
) -> bool:
    """Searches and shows it; at the end the best trials and what they cost.

    Where the configuration says so, the finalists are confirmed then.

    Args:
        config: the whole configuration.
        home: the state folder.
        url: of the database; None for the embedded one.
        study: name of the study.
        n_trials: total of finished trials.
        console: where it is shown.
        limits: what bounds the search besides.
        retry_for_s: how long to wait for a database that is away, in seconds.

    Returns:
        False if somebody interrupted it.
    """
    screen = open_screen(console)
    began_s = time.monotonic()
    try:
        here = limits.elsewhere is None
        plan = plan_search(config, home, study, n_trials, retry_for_s=retry_for_s, here=here)
        database = open_database(home, url)
        screen.note(f"database: {database.place}")
        end = run_search(plan, database, url, limits, screen)
        # Its figures take a second to import, which no search should wait for when it begins.
        from canopy_search.dashboards.answer.headline import closing

        data = read_study(StudyStore(database), database, study, datetime.now())
        summary, answered = data.summary, closing(data)
    except KeyboardInterrupt:
        return False
    finally:
        screen.close()
    if end is not SearchEnd.COMPLETE:
        console.print(f"study {study}: {end.value}", highlight=False)
    title = f"The best settings of {summary.finished} trials"
    console.print(trials_table(summary.best_settings[:5], title=title))
    console.print(f"study {study}: {counts_text(summary)}", highlight=False)
    for line in (spent_text(summary), *answered, ""):
        console.print(line, highlight=False, markup=False)
    if config.confirm is None or end is not SearchEnd.COMPLETE:
        return True
    asked = _at_hand(config.confirm, summary, console)
    if asked is None:
        return True
    if limits.hours is not None:
        left_h = limits.hours - (time.monotonic() - began_s) / 3600
        limits = replace(limits, hours=max(0.0, left_h))
    ended = confirm_on_screen(
        config, home, url, study, asked, console, limits=limits, retry_for_s=retry_for_s
    )
    if ended is not None:
        print_confirmation(ended, console)
    return ended is not None


def work_on_screen(plan: SearchPlan, url: str | None, console: Console) -> bool:
    """Lets this process work on a study that was begun elsewhere, and shows it.

    Args:
        plan: of the study.
        url: of the database; None for the embedded one.
        console: where it is shown.

    Returns:
        False if somebody interrupted it.
    """
    screen = open_screen(console)
    try:
        with leaving_in_time():
            search_in_study(plan, url, screen)
    except KeyboardInterrupt:
        return False
    finally:
        screen.close()
    return True


def _at_hand(
    asked: ConfirmSettings, summary: StudySummary, console: Console
) -> ConfirmSettings | None:
    """Returns what a search that has ended can have confirmed, and says so where that is less."""
    at_hand = finalists_at_hand(summary)
    if at_hand < asked.top:
        text = f"the study has {at_hand} different settings to confirm, and no more"
        console.print(text, highlight=False)
    return asked.model_copy(update={"top": min(asked.top, at_hand)}) if at_hand else None
