"""``canopy confirm``: trains the finalists and the baseline with further seeds, and tests them.

The runs are the trials of a study of their own, ``STUDY/confirm``, whose every setting is given
and one of whose parameters is the seed. So workers, leases, adoption, the stage tree, an exact
total and all that shows a study are those of any search. The seed that the search had is not
counted as one more: finalists were chosen by what it gave, so it flatters them (the winner's
curse).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from rich.console import Console

from canopy_search.dashboards.answer.confirmation_text import confirmation_lines, confirmation_table
from canopy_search.dashboards.study.confirmation import (
    Confirmation,
    confirming_study,
    read_confirmation,
)
from canopy_search.dashboards.study.finalists import (
    SEED,
    Candidate,
    finalists_at_hand,
    highest_seed,
)
from canopy_search.dashboards.study.summary import StudySummary, summarize_study
from canopy_search.search.config.settings import (
    LONGEST_STUDY_NAME,
    MOST_SEEDS,
    CanopyConfig,
    ConfirmSettings,
    NamedSettings,
    RangeSettings,
    Scalar,
    SearchSettings,
)
from canopy_search.search.errors import ConfirmationError
from canopy_search.search.progress_display import SearchScreen, open_screen
from canopy_search.search.scheduling.fixed_list_sampler import LISTED
from canopy_search.search.scheduling.next_trial import FINISHED
from canopy_search.search.study.join import join_plan
from canopy_search.search.study.plan import (
    SearchPlan,
    begin_study,
    check_ours,
    join_study,
    plan_search,
)
from canopy_search.search.study.preflight import open_data
from canopy_search.search.study.record import resolved_as_before, study_record_like
from canopy_search.search.workflows.run_study import Limits, SearchEnd, run_search
from canopy_search.storage.database import Database, open_database
from canopy_search.storage.study.confirmations import ConfirmationStore
from canopy_search.storage.study.studies import StudyStore


@dataclass(frozen=True)
class ConfirmationEnd:
    """How a confirmation ended.

    Attributes:
        confirmation: as it stands.
        stopped: why runs are missing, if they are.
    """

    confirmation: Confirmation
    stopped: SearchEnd | None = None


def confirm(  # noqa: PLR0917 - what a search needs
    config: CanopyConfig,
    home: Path,
    database: Database,
    url: str | None,
    study: str,
    asked: ConfirmSettings,
    limits: Limits,
    screen: SearchScreen,
    *,
    retry_for_s: float,
) -> ConfirmationEnd:
    """Trains what is missing of a confirmation, on all workers, and returns what is known then.

    Every run is scored on test as it ends, in the transaction that says that it is complete: once,
    and no other trial is. What is known already is neither trained nor scored again.

    Args:
        config: of this machine; what is trained comes from the study.
        home: the state folder.
        database: opened and migrated.
        url: of the database, for the workers; None for the embedded one.
        study: name of the study whose finalists these are.
        asked: how many finalists and seeds.
        limits: what bounds it besides.
        screen: shows what happens.
        retry_for_s: how long to wait for a database that is away, in seconds.

    Raises:
        UnknownStudyError: there is no such study.
        ConfirmationError: it has too few finalists, or confirms another one itself.
        StudyDiffersError: data or versions are not the study's.
        SearchFailedError: too many runs failed, or workers die again and again.
        KeyboardInterrupt: somebody wants to stop; no worker is left.
    """
    store = StudyStore(database)
    here = limits.elsewhere is None
    plan = join_plan(config, home, store, study, retry_for_s=retry_for_s, here=here)
    record = store.read_record(study) or {}
    summary = summarize_study(store, study)
    _check(summary, ConfirmationStore(database), asked)
    wanted = {"top": asked.top, "seeds": asked.seeds}
    known = read_confirmation(database, summary, record, **wanted)
    if known.is_complete:
        _ask(store, database, known)
        return ConfirmationEnd(known)
    if summary.is_searched or not summary.is_over:
        screen.note(f"study {study} is not finished; its finalists may still change")
    for each in known.settings:
        if (
            each.candidate.is_finalist
            and each.candidate.searched_epochs < plan.config.training.epochs
        ):
            screen.note(_pruned_text(each.candidate, plan.config.training.epochs))
    confirming = _plan(plan, record, known, store, here=here)
    dataset = None
    if here:
        dataset = open_data(plan.config.data, home, screen)
        join_study(plan, store, dataset)
        if not len(dataset.split.test):
            screen.note("no images are held out for test (data.split.test), so nothing is tested")
        begin_study(confirming, store, dataset)
    else:  # the machines that work compare their data and versions with this
        check_ours(confirming, store)
        like = study_record_like(dict(record), confirming.config, confirming.space)
        store.write_record(confirming.study, like)
    _ask(store, database, known)
    store.close()
    end = run_search(confirming, database, url, limits, screen, dataset)
    known = read_confirmation(database, summary, record, **wanted)
    return ConfirmationEnd(known, None if known.is_complete else end)


def _check(summary: StudySummary, confirmations: ConfirmationStore, asked: ConfirmSettings) -> None:
    name = summary.study
    if confirmations.confirms(name):
        raise ConfirmationError(f"study {name!r} confirms another one, and is not confirmed itself")
    if len(confirming_study(name)) > LONGEST_STUDY_NAME:
        raise ConfirmationError(
            f"study {name!r} has too long a name for {confirming_study('')!r} after it"
        )
    at_hand = finalists_at_hand(summary)
    if at_hand < asked.top:
        raise ConfirmationError(
            f"study {name!r} has {at_hand} different settings that came to an end and did not go "
            f"wrong, and {asked.top} finalists are wanted (--top); search on, or ask for fewer"
        )


def _pruned_text(finalist: Candidate, epochs: int) -> str:
    return (
        f"trial {finalist.trial} was pruned after {finalist.searched_epochs} of {epochs} epochs, "
        "and is a finalist since no more were trained to their end"
    )


def _ask(store: StudyStore, database: Database, known: Confirmation) -> None:
    ConfirmationStore(database).ask(
        store.study_id(known.study),
        store.study_id(known.confirming),
        top=known.top,
        seeds=len(known.seeds),
    )


def _plan(
    plan: SearchPlan,
    record: Mapping[str, Any],
    known: Confirmation,
    store: StudyStore,
    *,
    here: bool,
) -> SearchPlan:
    """Returns the plan of the study whose trials are the runs."""
    search = plan.config.search
    settings = SearchSettings(
        study=known.confirming,
        trials=_target(known, store),
        workers=search.workers,
        slots_per_gpu=search.slots_per_gpu,
        sampler=NamedSettings(name=LISTED, settings=known.wanted),
        pruner=NamedSettings(name="none"),
        seed=search.seed,
        max_failures=search.max_failures,
        max_failures_total=search.max_failures_total,
        stall_s=search.stall_s,
        space=_space(search, record, known),
    )
    training = resolved_as_before(plan.config.training, dict(record))
    config = plan.config.model_copy(update={"search": settings, "training": training})
    begun = plan_search(
        config,
        plan.home,
        known.confirming,
        settings.trials,
        retry_for_s=plan.retry_for_s,
        here=here,
    )
    return replace(begun, workers=plan.workers)


def _target(known: Confirmation, store: StudyStore) -> int:
    """Returns how many trials the study has when no run is missing any more.

    Some may have ended without a result, since a person stopped them, and others may be left of an
    earlier demand, which go on first.
    """
    if known.confirming not in store.names():
        return len(known.wanted)
    trials = store.load_study(known.confirming).get_trials(deepcopy=False)
    finished = sum(trial.state in FINISHED for trial in trials)
    missing = known.missing
    left = sum(
        trial.state == TrialState.RUNNING and trial.params not in missing for trial in trials
    )
    return finished + len(missing) + left


def _space(
    search: SearchSettings, record: Mapping[str, Any], known: Confirmation
) -> dict[str, list[Scalar] | RangeSettings]:
    """Returns the study's space with the seeds, widened where the baseline lies outside of it.

    Nothing is sampled from it, so ranges need neither steps nor a logarithm, and zero may be in
    them. The seeds are a range that stays the same when more are asked for.

    Raises:
        ConfirmationError: the baseline has no number where the space has a range.
    """
    base = known.base.candidate.params
    first = highest_seed(record) + 1
    space: dict[str, list[Scalar] | RangeSettings] = {
        name: _holding(name, domain, base[name])
        for name, domain in search.space.items()
        if name != SEED
    }
    return {**space, SEED: RangeSettings(low=first, high=first + MOST_SEEDS - 1)}


def _holding(
    name: str, domain: list[Scalar] | RangeSettings, value: Any
) -> list[Scalar] | RangeSettings:
    if isinstance(domain, list):
        is_in = any(
            each == value and isinstance(each, bool) == isinstance(value, bool) for each in domain
        )
        return domain if is_in else [*domain, value]
    if not isinstance(value, int | float):
        raise ConfirmationError(
            f"the baseline has {name} {value}, and search.space has a range of it; begin a study "
            "with a baseline of numbers in search.enqueue"
        )
    return RangeSettings(low=min(domain.low, value), high=max(domain.high, value))


def confirm_on_screen(  # noqa: PLR0917 - as above
    config: CanopyConfig,
    home: Path,
    url: str | None,
    study: str,
    asked: ConfirmSettings,
    console: Console,
    *,
    limits: Limits,
    retry_for_s: float,
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
        retry_for_s: how long to wait for a database that is away, in seconds.

    Returns:
        How it ended; None if somebody interrupted it.
    """
    screen = open_screen(console)
    try:
        database = open_database(home, url)
        return confirm(
            config, home, database, url, study, asked, limits, screen, retry_for_s=retry_for_s
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
