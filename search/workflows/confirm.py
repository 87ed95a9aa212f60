"""``canopy confirm``: trains the finalists and the baseline with additional seeds, and tests them.

The runs are the trials of a separate study, ``STUDY/confirm``, in which every setting is fixed in
advance and the seed is a parameter. So workers, leases, adoption, the stage tree, an exact total
and every dashboard work as in any search. The search's own seed does not count as one of these
seeds: the finalists were chosen by its scores, which are therefore biased upwards (the winner's
curse).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import TrialState
from rich.console import Console

from canopy_search.dashboards.answer.confirmation_text import confirmation_lines, confirmation_table
from canopy_search.dashboards.study.baseline import SEED
from canopy_search.dashboards.study.confirmation import (
    Confirmation,
    confirming_study,
    read_confirmation,
)
from canopy_search.dashboards.study.finalists import Candidate, finalists_at_hand, highest_seed
from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.study.reader import read_trials
from canopy_search.search.config.settings import (
    LONGEST_STUDY_NAME,
    MOST_SEEDS,
    ConfirmSettings,
    NamedSettings,
    RangeSettings,
    Scalar,
    SearchSettings,
)
from canopy_search.search.errors import ConfirmationError
from canopy_search.search.events import Note
from canopy_search.search.progress_display import SearchScreen, open_screen
from canopy_search.search.scheduling.fixed_list_sampler import LISTED
from canopy_search.search.scheduling.next_trial import SearchEnd, finished_count
from canopy_search.search.study.configuration import checked
from canopy_search.search.study.join import join_plan
from canopy_search.search.study.plan import (
    SearchPlan,
    create_study,
    join_study,
    plan_search,
    start_study,
)
from canopy_search.search.study.preflight import open_data
from canopy_search.search.study.record import resolved_as_before, study_record_like
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workflows.run_study import Limits, run_search
from canopy_search.storage.database import Database
from canopy_search.storage.study.confirmations import ConfirmationStore
from canopy_search.storage.study.studies import StudyStore


@dataclass(frozen=True)
class ConfirmRequest(StudyRequest):
    """A requested confirmation of a study.

    Attributes:
        finalists: how many finalists and seeds.
        limits: workers, time limit and backend.
    """

    finalists: ConfirmSettings
    limits: Limits


@dataclass(frozen=True)
class ConfirmationEnd:
    """How a confirmation ended.

    Attributes:
        confirmation: its current state.
        stopped: why runs are missing, if any are.
    """

    confirmation: Confirmation
    stopped: SearchEnd | None = None


def confirm(request: ConfirmRequest, database: Database, screen: SearchScreen) -> ConfirmationEnd:
    """Trains the missing runs of a confirmation, on all workers, and returns the result.

    Every run is scored on test exactly once, when it ends, in the transaction that marks it
    complete; no other trial is tested. Existing results are reused.

    Args:
        request: the study that the finalists belong to, and how to confirm them; the training
            settings come from the study.
        database: opened and migrated.
        screen: shows the progress.

    Raises:
        UnknownStudyError: there is no such study.
        StudyArchivedError: it is archived.
        ConfirmationError: it has too few finalists, or is itself a confirmation.
        StudyDiffersError: data or versions differ from the study's.
        SearchFailedError: too many runs failed, or workers died repeatedly.
        KeyboardInterrupt: the user stopped it; no worker is left.
    """
    store = StudyStore(database)
    study, settings = request.study, request.finalists
    store.check_not_archived(study)
    is_local = request.limits.elsewhere is None
    plan = join_plan(request, store, is_local=is_local)
    summary = read_trials(store, study)
    record = summary.record or {}
    _check(summary, ConfirmationStore(database), settings)
    requested = {"top": settings.top, "seeds": settings.seeds}
    confirmation = read_confirmation(database, summary, record, **requested)
    if confirmation.is_complete:
        _store_request(store, database, confirmation)
        return ConfirmationEnd(confirmation)
    if summary.is_searched or not summary.is_over:
        screen.emit(Note(f"study {study} is not finished; its finalists may still change"))
    epochs = plan.config.training.epochs
    for candidate in (confirmed.candidate for confirmed in confirmation.settings):
        if candidate.is_finalist and candidate.searched_epochs < epochs:
            screen.emit(Note(_pruned_text(candidate, epochs)))
    confirming = _plan(plan, record, confirmation, store, is_local=is_local)
    dataset = None
    if is_local:
        dataset = open_data(plan.config.data, plan.workspace.home, screen.emit)
        join_study(plan, store, dataset)
        if not len(dataset.split.test):
            text = "no images are held out for test (data.split.test), so nothing is tested"
            screen.emit(Note(text))
        start_study(confirming, store, dataset)
    else:  # the workers' machines compare their data and versions with this record
        create_study(confirming, store)
        confirming_record = study_record_like(dict(record), confirming.config, confirming.space)
        store.write_record(confirming.study, confirming_record)
    _store_request(store, database, confirmation)
    store.close()
    end = run_search(confirming, database, request.limits, screen, dataset)
    confirmation = read_confirmation(database, summary, record, **requested)
    return ConfirmationEnd(confirmation, None if confirmation.is_complete else end)


def _check(summary: StudyData, confirmations: ConfirmationStore, settings: ConfirmSettings) -> None:
    name = summary.name
    if confirmations.confirms(name):
        raise ConfirmationError(f"study {name!r} is itself a confirmation; confirm another study")
    if len(confirming_study(name)) > LONGEST_STUDY_NAME:
        raise ConfirmationError(
            f"the name of study {name!r} is too long to append {confirming_study('')!r}"
        )
    available = finalists_at_hand(summary)
    if available < settings.top:
        raise ConfirmationError(
            f"study {name!r} has {available} different settings that ended without an error, but "
            f"{settings.top} finalists are requested (--top); run more trials, or request fewer"
        )


def _pruned_text(finalist: Candidate, epochs: int) -> str:
    return (
        f"trial {finalist.trial} was pruned after {finalist.searched_epochs} of {epochs} epochs; "
        "it is a finalist because too few other settings were fully trained"
    )


def _store_request(store: StudyStore, database: Database, confirmation: Confirmation) -> None:
    ConfirmationStore(database).ask(
        store.study_id(confirmation.study),
        store.study_id(confirmation.confirming),
        top=confirmation.top,
        seeds=len(confirmation.seeds),
    )


def _plan(
    plan: SearchPlan,
    record: Mapping[str, Any],
    confirmation: Confirmation,
    store: StudyStore,
    *,
    is_local: bool,
) -> SearchPlan:
    """Returns the plan of the study whose trials are the runs."""
    search = plan.config.search
    settings = SearchSettings(
        study=confirmation.confirming,
        trials=_target(confirmation, store),
        workers=search.workers,
        slots_per_gpu=search.slots_per_gpu,
        sampler=NamedSettings(name=LISTED, settings=confirmation.wanted),
        pruner=NamedSettings(name="none"),
        seed=search.seed,
        max_failures=search.max_failures,
        max_failures_total=search.max_failures_total,
        stall_s=search.stall_s,
        space=_space(search, record, confirmation),
    )
    training = resolved_as_before(plan.config.training, dict(record))
    config = plan.config.model_copy(update={"search": settings, "training": training})
    request = StudyRequest(plan.workspace, checked(config), confirmation.confirming)
    confirming = plan_search(request, settings.trials, is_local=is_local)
    return replace(confirming, workers=plan.workers)


def _target(confirmation: Confirmation, store: StudyStore) -> int:
    """Returns the number of trials of the study once no run is missing.

    Some may have ended without a result because the user stopped them. Others may remain from an
    earlier request, and resume first.
    """
    if confirmation.confirming not in store.names():
        return len(confirmation.wanted)
    trials = store.trials(confirmation.confirming)
    finished = finished_count(trials)
    missing = confirmation.missing
    left = sum(
        trial.state == TrialState.RUNNING and trial.params not in missing for trial in trials
    )
    return finished + len(missing) + left


def _space(
    search: SearchSettings, record: Mapping[str, Any], confirmation: Confirmation
) -> dict[str, list[Scalar] | RangeSettings]:
    """Returns the study's space with the seeds, widened where the baseline is outside of it.

    Nothing is sampled from it, so its ranges have no steps and no log scale, and may include zero.
    The range of the seeds stays the same when more seeds are requested.

    Raises:
        ConfirmationError: the baseline's value is not a number where the space has a range.
    """
    base = confirmation.base.candidate.params
    first = highest_seed(record) + 1
    space: dict[str, list[Scalar] | RangeSettings] = {
        name: _including(name, domain, base[name])
        for name, domain in search.space.items()
        if name != SEED
    }
    return {**space, SEED: RangeSettings(low=first, high=first + MOST_SEEDS - 1)}


def _including(
    name: str, domain: list[Scalar] | RangeSettings, value: Any
) -> list[Scalar] | RangeSettings:
    if isinstance(domain, list):
        is_in = any(
            choice == value and isinstance(choice, bool) == isinstance(value, bool)
            for choice in domain
        )
        return domain if is_in else [*domain, value]
    if not isinstance(value, int | float):
        raise ConfirmationError(
            f"the baseline has {name} {value}, but search.space has a range for it; start a study "
            "with a numeric baseline in search.enqueue"
        )
    return RangeSettings(low=min(domain.low, value), high=max(domain.high, value))


def confirm_on_screen(request: ConfirmRequest, console: Console) -> ConfirmationEnd | None:
    """Confirms the finalists of a study and shows the progress.

    Args:
        request: the study, and how to confirm it.
        console: where the progress is shown.

    Returns:
        How it ended; None if the user interrupted it.
    """
    screen = open_screen(console)
    try:
        return confirm(request, request.workspace.open(), screen)
    except KeyboardInterrupt:
        return None
    finally:
        screen.close()


def print_confirmation(ended: ConfirmationEnd, console: Console) -> None:
    """Prints a confirmation, and why it is incomplete, if it is."""
    confirmation = ended.confirmation
    if ended.stopped is not None:
        console.print(f"study {confirmation.confirming}: {ended.stopped.value}")
    console.print(confirmation_table(confirmation))
    for line in confirmation_lines(confirmation):
        console.print(line)
    console.print()
