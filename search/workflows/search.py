"""A whole search, or one worker of it, with its output on the terminal."""

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from canopy_search.dashboards.formatting.tables import counts_text, spent_text, trials_table
from canopy_search.dashboards.study.finalists import finalists_at_hand
from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.study.read_study import read_study
from canopy_search.search.config.settings import CanopyConfig, ConfirmSettings
from canopy_search.search.events import Note
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
    """Runs a search with live progress, then prints the best trials and their cost.

    If the configuration has `confirm`, the finalists are then confirmed.

    Args:
        config: the whole configuration.
        home: the state folder.
        url: URL of the database; None for the embedded one.
        study: name of the study.
        n_trials: total of finished trials.
        console: where the progress is shown.
        limits: workers, time limit and backend.
        retry_for_s: how long to retry while the database is unavailable, in seconds.

    Returns:
        False if the user interrupted it.
    """
    screen = open_screen(console)
    started_s = time.monotonic()
    try:
        is_local = limits.elsewhere is None
        plan = plan_search(
            config, home, study, n_trials, retry_for_s=retry_for_s, is_local=is_local
        )
        database = open_database(home, url)
        screen.emit(Note(f"database: {database.place}"))
        end = run_search(plan, database, url, limits, screen)
        # Its figures take a second to import, which would delay the start of the search.
        from canopy_search.dashboards.answer.headline import closing

        data = read_study(StudyStore(database), database, study, datetime.now())
        summary, answered = data, closing(data)
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
    settings = _available(config.confirm, summary, console)
    if settings is None:
        return True
    if limits.hours is not None:
        left_h = limits.hours - (time.monotonic() - started_s) / 3600
        limits = replace(limits, hours=max(0.0, left_h))
    ended = confirm_on_screen(
        config, home, url, study, settings, console, limits=limits, retry_for_s=retry_for_s
    )
    if ended is not None:
        print_confirmation(ended, console)
    return ended is not None


def work_on_screen(plan: SearchPlan, url: str | None, console: Console) -> bool:
    """Lets this process work on a study that was started elsewhere, and shows the progress.

    Args:
        plan: plan of the study.
        url: URL of the database; None for the embedded one.
        console: where the progress is shown.

    Returns:
        False if the user interrupted it.
    """
    screen = open_screen(console)
    try:
        with leaving_in_time():
            search_in_study(plan, url, screen.emit)
    except KeyboardInterrupt:
        return False
    finally:
        screen.close()
    return True


def _available(
    requested: ConfirmSettings, summary: StudyData, console: Console
) -> ConfirmSettings | None:
    """Returns the confirmation that an ended search allows; prints a note if it is smaller."""
    available = finalists_at_hand(summary)
    if available < requested.top:
        text = f"the study has only {available} different settings to confirm"
        console.print(text, highlight=False)
    top = min(requested.top, available)
    return requested.model_copy(update={"top": top}) if available else None
