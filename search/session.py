"""A search or a training run from start to end, with what a person sees of it."""

import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from canopy_search.dashboards.confirmation_text import confirmation_lines, confirmation_table
from canopy_search.dashboards.finalists import finalists_at_hand
from canopy_search.dashboards.study_data import read_study
from canopy_search.dashboards.summary import StudySummary
from canopy_search.dashboards.tables import counts_text, spent_text, trials_table
from canopy_search.search.confirm import ConfirmationEnd, confirm
from canopy_search.search.departure import leaving_in_time
from canopy_search.search.dry_run import try_placement, try_search
from canopy_search.search.placement.engine import Placement
from canopy_search.search.plan import SearchPlan, plan_search
from canopy_search.search.preparation import check_network, open_data
from canopy_search.search.promote import promote
from canopy_search.search.run_search import Limits, SearchEnd, run_search
from canopy_search.search.screen import is_live, open_screen
from canopy_search.search.settings import CanopyConfig, ConfirmSettings
from canopy_search.search.tabulate import tabulate
from canopy_search.search.training_job import TrainingResult, train_in_full
from canopy_search.search.training_report import epoch_line
from canopy_search.search.worker_process import search_in_study
from canopy_search.storage.database import open_database
from canopy_search.storage.studies import StudyStore
from canopy_search.training.atomic import check_writable
from canopy_search.training.run import EpochMetrics


def search_until_done(  # noqa: PLR0917 - what a search needs
    config: CanopyConfig,
    home: Path,
    url: str | None,
    study: str,
    n_trials: int,
    console: Console,
    *,
    limits: Limits,
    patience_s: float,
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
        patience_s: how long to wait for a database that is away, in seconds.

    Returns:
        False if somebody interrupted it.
    """
    screen = open_screen(console)
    began_s = time.monotonic()
    try:
        here = limits.elsewhere is None
        plan = plan_search(config, home, study, n_trials, patience_s=patience_s, here=here)
        database = open_database(home, url)
        screen.note(f"database: {database.place}")
        end = run_search(plan, database, url, limits, screen)
        # Its figures take a second to import, which no search should wait for when it begins.
        from canopy_search.dashboards.answer import closing

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
        config, home, url, study, asked, console, limits=limits, patience_s=patience_s
    )
    if ended is not None:
        print_confirmation(ended, console)
    return ended is not None


def confirm_on_screen(  # noqa: PLR0917 - as above
    config: CanopyConfig,
    home: Path,
    url: str | None,
    study: str,
    asked: ConfirmSettings,
    console: Console,
    *,
    limits: Limits,
    patience_s: float,
) -> ConfirmationEnd | None:
    """Confirms the finalists of a study and shows how that goes.

    Args:
        config: the whole configuration.
        home: the state folder.
        url: of the database; None for the embedded one.
        study: name of the study.
        asked: how many finalists and seeds.
        console: where it is shown.
        limits: what bounds it besides.
        patience_s: how long to wait for a database that is away, in seconds.

    Returns:
        How it ended; None if somebody interrupted it.
    """
    screen = open_screen(console)
    try:
        database = open_database(home, url)
        return confirm(
            config, home, database, url, study, asked, limits, screen, patience_s=patience_s
        )
    except KeyboardInterrupt:
        return None
    finally:
        screen.close()


def print_confirmation(ended: ConfirmationEnd, console: Console) -> None:
    """Prints a confirmation, and why it is not complete if it is not."""
    known = ended.confirmation
    if ended.stopped is not None:
        console.print(f"study {known.confirming}: {ended.stopped.value}", highlight=False)
    console.print(confirmation_table(known))
    for line in confirmation_lines(known):
        console.print(line, highlight=False, markup=False)
    console.print()


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


def try_on_screen(  # noqa: PLR0917 - as above
    config: CanopyConfig,
    home: Path,
    url: str | None,
    study: str,
    n_trials: int,
    console: Console,
    elsewhere: Placement | None = None,
) -> None:
    """Tries all that a search needs, without beginning it, and shows what was found.

    Args:
        config: the whole configuration.
        home: the state folder.
        url: of the database; None for the embedded one.
        study: name of the study.
        n_trials: total of finished trials.
        console: where it is shown.
        elsewhere: the engine that will place the workers on other machines; None for this one.
    """
    screen = open_screen(console)
    try:
        if elsewhere is None:
            try_search(config, home, url, study, n_trials, screen)
        else:
            try_placement(config, home, url, study, n_trials, elsewhere, screen)
    finally:
        screen.close()


def promote_on_screen(  # noqa: PLR0917 - as above
    config: CanopyConfig,
    home: Path,
    url: str | None,
    study: str,
    numbers: list[int],
    console: Console,
) -> bool:
    """Gives trials the rest of their epochs and shows it.

    Args:
        config: the whole configuration.
        home: the state folder.
        url: of the database; None for the embedded one.
        study: name of the study.
        numbers: of the trials.
        console: where it is shown.

    Returns:
        False if somebody interrupted it.
    """
    screen = open_screen(console)
    try:
        plan = plan_search(config, home, study, config.search.trials)
        promote(plan, open_database(home, url), numbers, screen)
    except KeyboardInterrupt:
        return False
    finally:
        screen.close()
    return True


def tabulate_on_screen(
    config: CanopyConfig, home: Path, url: str | None, output: Path, console: Console
) -> int | None:
    """Trains every point of a space and shows how far it is.

    Args:
        config: the whole configuration.
        home: the state folder.
        url: of the database; None for the embedded one.
        output: the Parquet file to write.
        console: where it is shown.

    Returns:
        The number of points; None if somebody interrupted it.
    """
    screen = open_screen(console)
    try:
        plan = plan_search(config, home, config.search.study, config.search.trials)
        check_writable(output)
        database = open_database(home, url)
        screen.note(f"database: {database.place}")
        return tabulate(plan, database, output, screen)
    except KeyboardInterrupt:
        return None
    finally:
        screen.close()


def train_on_screen(
    config: CanopyConfig, home: Path, model: Path, console: Console
) -> TrainingResult:
    """Trains one configuration in full and shows every epoch.

    Args:
        config: data and training settings.
        home: the state folder.
        model: the file to write.
        console: where it is shown.
    """
    screen = open_screen(console)
    try:
        dataset = open_data(config.data, home, screen)
        check_network(config.training, dataset)
        check_writable(model)
    finally:
        screen.close()
    epochs = config.training.epochs

    with console.status("epoch 1") if is_live(console) else nullcontext() as status:

        def on_batch(epoch: int, done: int, total: int) -> None:
            if status is not None:
                status.update(f"epoch {epoch} of {epochs}: {100 * done // total} %")

        def on_epoch(metrics: EpochMetrics) -> None:
            console.print(epoch_line(metrics, epochs), highlight=False, soft_wrap=True)

        return train_in_full(config, dataset, model, on_batch, on_epoch)


def _at_hand(
    asked: ConfirmSettings, summary: StudySummary, console: Console
) -> ConfirmSettings | None:
    """Returns what a search that has ended can have confirmed, and says so where that is less."""
    at_hand = finalists_at_hand(summary)
    if at_hand < asked.top:
        text = f"the study has {at_hand} different settings to confirm, and no more"
        console.print(text, highlight=False)
    return asked.model_copy(update={"top": min(asked.top, at_hand)}) if at_hand else None
