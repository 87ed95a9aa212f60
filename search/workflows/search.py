"""A whole search, or one worker of it, with its output on the terminal."""

import time
from dataclasses import replace
from datetime import datetime

from rich.console import Console

from canopy_search.dashboards.formatting.tables import counts_text, spent_text, trials_table
from canopy_search.dashboards.study.finalists import finalists_at_hand
from canopy_search.dashboards.study.read_study import read_study
from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.events import Note
from canopy_search.search.progress_display import open_screen
from canopy_search.search.scheduling.next_trial import SearchEnd
from canopy_search.search.study.plan import SearchPlan, plan_search
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.device_slots import device_slots
from canopy_search.search.workers.graceful_exit import leaving_in_time
from canopy_search.search.workers.process import search_in_study
from canopy_search.search.workflows.confirm import (
    ConfirmRequest,
    confirm_on_screen,
    print_confirmation,
)
from canopy_search.search.workflows.run_study import Limits, SearchRequest, run_search
from canopy_search.storage.study.studies import StudyStore


def search_until_done(request: SearchRequest, console: Console) -> bool:
    """Runs a search with live progress, then prints the best trials and their cost.

    If the configuration has `confirm`, the finalists are then confirmed.

    Args:
        request: the requested search.
        console: where the progress is shown.

    Returns:
        False if the user interrupted it.
    """
    study, limits = request.study, request.limits
    screen = open_screen(console)
    started_s = time.monotonic()
    try:
        plan = plan_search(request, request.n_trials, is_local=limits.elsewhere is None)
        database = request.workspace.open()
        screen.emit(Note(f"database: {database.place}"))
        end = run_search(plan, database, limits, screen)
        # Its figures take a second to import, which would delay the start of the search.
        from canopy_search.dashboards.answer.headline import closing

        data = read_study(StudyStore(database), database, study, datetime.now())
        summary, answered = data, closing(data)
    except KeyboardInterrupt:
        return False
    finally:
        screen.close()
    if end is not SearchEnd.COMPLETE:
        console.print(f"study {study}: {end.value}")
    title = f"The best settings of {summary.finished} trials"
    console.print(trials_table(summary.best_settings[:5], title=title))
    console.print(f"study {study}: {counts_text(summary)}")
    for line in (spent_text(summary), *answered, ""):
        console.print(line)
    if limits.hours is not None:
        left_h = limits.hours - (time.monotonic() - started_s) / 3600
        limits = replace(limits, hours=max(0.0, left_h))
    return not end.is_final or _confirm_at_end(request, limits, console)


def work_on_screen(plan: SearchPlan, console: Console) -> bool:
    """Lets this process work on a study that was started elsewhere, and shows the progress.

    If this machine's configuration has `confirm`, it then helps to confirm the finalists.

    Args:
        plan: plan of the study.
        console: where the progress is shown.

    Returns:
        False if the user interrupted it.
    """
    screen = open_screen(console)
    try:
        [slot] = device_slots(plan.config.training.device, 1)
        with leaving_in_time():
            end = search_in_study(replace(plan, slot=slot.name), screen.emit)
        screen.emit(Note(f"study {plan.study}: {end.value}"))
    except KeyboardInterrupt:
        return False
    finally:
        screen.close()
    return not end.is_final or _confirm_at_end(plan.request, Limits(workers=1), console)


def _confirm_at_end(request: StudyRequest, limits: Limits, console: Console) -> bool:
    """Confirms the finalists of an ended search, if the configuration says so and it has any.

    Returns:
        False if the user interrupted it.
    """
    requested = request.configuration.settings.confirm
    if requested is None:
        return True
    store = StudyStore(request.workspace.open())
    available = finalists_at_hand(read_trials(store, request.study))
    if available < requested.top:
        text = f"the study has only {available} different settings to confirm"
        console.print(text)
    if not available:
        return True
    settings = requested.model_copy(update={"top": min(requested.top, available)})
    ended = confirm_on_screen(
        ConfirmRequest(request.workspace, request.configuration, request.study, settings, limits),
        console,
    )
    if ended is not None:
        print_confirmation(ended, console)
    return ended is not None
