"""One worker: takes trials of a study and runs them, until nothing is left to do."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.dashboards.formatting.tables import params_text
from canopy_search.search.config.settings import NamedSettings
from canopy_search.search.errors import SearchFailedError, StudyPausedError
from canopy_search.search.events import SearchWatcher
from canopy_search.search.scheduling.factory import build_pruner, build_sampler
from canopy_search.search.scheduling.fixed_list_sampler import LISTED
from canopy_search.search.scheduling.next_trial import (
    Idle,
    claim_trial,
    end_left,
    end_paused,
    enqueue_once,
    failure_limit_reached,
    finished_count,
    is_on_plateau,
    settings_without_memory,
)
from canopy_search.search.scheduling.open_study import OpenStudy
from canopy_search.search.scheduling.paused_as_pruned_sampler import AsPruned
from canopy_search.search.scheduling.verification import verifying
from canopy_search.search.study.plan import BegunStudy, SearchPlan
from canopy_search.search.trial.objective import Objective
from canopy_search.search.trial.open_tree import open_tree
from canopy_search.search.trial.watchdog import Watchdog
from canopy_search.storage.connection.retry import RetryPolicy
from canopy_search.storage.database import Database
from canopy_search.storage.errors import LeaseLostError
from canopy_search.storage.study.confirmations import ConfirmationStore
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import REASON_ATTR, STOPPED
from canopy_search.storage.study.trial_changes import Lease, TrialChange
from canopy_search.storage.study.trial_queue import StudySnapshot, TrialQueue
from canopy_search.storage.study.write_queue import WriteQueue
from canopy_search.storage.workers.control import PAUSE, RUN, STOP_PRUNING
from canopy_search.storage.workers.session import WorkerSession

MOST_DEATHS = 4
"""A trial whose worker dies so often without an epoch in between fails."""

INSISTENT, MOST_ATTEMPTS = 5, 100
"""A setting that ran out of memory is not begun again: another one is sampled, and so often at
random before the search gives up."""

_ATTEMPT_STRIDE = 2**32
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 2.0
_STALL_RECORD_S = 10.0


@contextmanager
def open_objective(
    begun: BegunStudy,
    database: Database,
    watcher: SearchWatcher,
    retry_policy: RetryPolicy,
    *,
    obeys: bool = True,
) -> Iterator[Objective]:
    """Opens all that a worker needs to run trials of a study that has begun.

    Args:
        begun: the study.
        database: opened and migrated.
        watcher: is told what happens.
        retry_policy: how long to wait for a database that is away.
        obeys: whether a pause or an end of the study is for this worker, too.
    """
    plan = begun.plan
    search = plan.config.search
    with ExitStack() as stack:
        trial_queue, session = retry_policy.call(lambda: _come_in(plan, database))
        stack.callback(session.close)
        write_queue = WriteQueue(trial_queue.write, retry_policy)
        stack.callback(write_queue.close)
        watchdog = Watchdog(search.stall_s, _failing(write_queue, watcher))
        retry_policy.alive = watchdog.progress
        tree = stack.enter_context(
            open_tree(
                plan.config.stages,
                plan.home,
                database,
                session,
                begun.dataset,
                retry_policy=retry_policy,
                note=watcher.note,
                alive=watchdog.progress,
            )
        )
        pruner = build_pruner(search.pruner, plan.config.training.epochs)
        study = optuna.load_study(study_name=plan.study, storage=trial_queue.replica, pruner=pruner)
        tests = retry_policy.call(lambda: ConfirmationStore(database).confirms(plan.study))
        yield Objective(
            OpenStudy(study, trial_queue.replica),
            pruner,
            search.pruner.name,
            trial_queue,
            write_queue,
            tree,
            plan.config.stages.enabled,
            begun.space,
            watcher,
            watchdog,
            search.max_trial_s,
            obeys,
            tests,
        )


def _come_in(plan: SearchPlan, database: Database) -> tuple[TrialQueue, WorkerSession]:
    """Takes both connections of a worker or none: where few are left, all would wait for one more.

    Raises:
        SQLAlchemyError: the database is away.
    """
    store = StudyStore(database)
    try:
        study_id = store.study_id(plan.study)
        session = WorkerSession(
            database.url, study_id=study_id, slot=plan.slot, throttle=database.throttle
        )
        session.come_in()
        try:
            trial_queue = store.open_trial_queue(plan.study, session)
        except SQLAlchemyError:
            session.back_out()
            raise
    except SQLAlchemyError:
        database.close()
        raise
    session.start()
    return trial_queue, session


def work(plan: SearchPlan, objective: Objective, retry_policy: RetryPolicy) -> None:
    """Runs trials until the study has what it was asked for.

    Raises:
        SearchFailedError: too many trials failed.
        DatabaseUnavailableError: the database was away for too long.
    """
    _Worker(plan, objective, retry_policy).run()


def best_ap(study: optuna.Study) -> float | None:
    """Returns the best validation AP of the study's complete trials."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max((trial.value for trial in complete if trial.value is not None), default=None)


@dataclass
class _Worker:
    """The loop of one worker."""

    plan: SearchPlan
    objective: Objective
    retry_policy: RetryPolicy
    is_waiting: bool = False
    is_enqueued: bool = False
    wait_s: float = _FIRST_WAIT_S
    as_pruned: AsPruned = field(default_factory=AsPruned)

    def __post_init__(self) -> None:
        config = self.plan.config
        share, epochs = config.search.verified_share, config.training.epochs
        self.verification = verifying(share, epochs, self.objective.pruner)

    def run(self) -> None:
        """Runs trials until there is nothing left to do."""
        is_first = True
        while (found := self._next()) is not Idle.DONE:
            if is_first:
                is_first = False
                self._emit_start()
            if found is Idle.WAIT:
                self._wait()
                continue
            self.is_waiting, self.wait_s = False, _FIRST_WAIT_S
            try:
                self._run_trial(found)
            except LeaseLostError as error:
                self.objective.trial_queue.give_back(self.objective.opened.trial_id(found.number))
                self.objective.watcher.note(f"{error}; this worker takes other work")
            except StudyPausedError:
                self.objective.tree.drop()
            self.objective.trial_queue.say(None)

    def _next(self) -> optuna.trial.Trial | Idle:
        """Decides what to do next, however long that takes."""
        try:
            return self.retry_policy.call(self._claim)
        except LeaseLostError as error:  # somebody ended a trial with Optuna alone
            self.objective.watcher.note(str(error))
            return Idle.WAIT

    def _emit_start(self) -> None:
        study, plan = self.objective.opened.study, self.plan
        finished = finished_count(study)
        self.objective.watcher.search_started(plan.study, finished, plan.n_trials, best_ap(study))

    def _run_trial(self, trial: optuna.trial.Trial) -> None:
        of = self.objective
        end = of.run_trial(trial)
        of.watcher.trial_ended(end, of.opened.trial_index().settled, best_ap(of.opened.study))

    def _wait(self) -> None:
        of = self.objective
        is_paused = of.trial_queue.wanted() == PAUSE
        if not self.is_waiting:
            self.is_waiting = True
            of.watcher.note(
                "the study pauses; it goes on with: canopy resume"
                if is_paused
                else "nothing to begin now; waiting for the other workers"
            )
        while True:
            time.sleep(random.uniform(0.5, 1) * self.wait_s)
            self.wait_s = min(max(_LONGEST_WAIT_S, of.trial_queue.longest_pause_s), 2 * self.wait_s)
            if not (is_paused and of.trial_queue.wanted() == PAUSE):  # a beat tells when it goes on
                return

    def _claim(self) -> optuna.trial.Trial | Idle:
        """Decides what to do next, while no other worker does."""
        of, search = self.objective, self.plan.config.search
        opened = of.opened
        with of.trial_queue.locked() as snapshot:
            if snapshot.control == PAUSE:
                return Idle.WAIT
            self._check_failures(snapshot)
            # Where all are known, they stay so.
            self.is_enqueued = self.is_enqueued or not enqueue_once(opened.study, search.enqueued)
            before = len(opened.trials())
            found = self._found(snapshot)
            if isinstance(found, Idle):
                ended = end_paused(opened, of.pruner_name) if found is Idle.DONE else []
            else:
                found = self._sampled(found, is_new=found.number >= before)
                snapshot.taken = found.number
                return found
        if ended:
            of.watcher.note(f"{len(ended)} paused trials end as pruned")
            for number in [] if of.shares else ended:
                of.forget(number)
        return found

    def _found(self, snapshot: StudySnapshot) -> optuna.trial.Trial | Idle:
        of, search = self.objective, self.plan.config.search
        opened = of.opened
        if snapshot.mine:  # taken, and then the connection broke before we heard of it
            return opened.take_up(min(snapshot.mine))
        if snapshot.control == STOP_PRUNING:
            end_left(opened, snapshot.owned, STOPPED)
            return Idle.WAIT if snapshot.owned else Idle.DONE
        self._fail_deadly(snapshot)
        trials = opened.trials()
        self._seed_sampler(len(trials))
        return claim_trial(
            opened,
            of.pruner,
            snapshot.target or self.plan.n_trials,
            snapshot.owned,
            snapshot.suspected,
            begins=snapshot.control == RUN,
            searches=not is_on_plateau(trials, search.stop_when.no_improvement_trials),
            verification=self.verification,
        )

    def _fail_deadly(self, snapshot: StudySnapshot) -> None:
        """Ends trials that no worker survives, so that they do not take all of them."""
        opened = self.objective.opened
        for number, deaths in snapshot.deaths.items():
            if deaths >= MOST_DEATHS and number not in snapshot.owned:
                trial = opened.take_up(number)
                trial.set_user_attr(REASON_ATTR, f"{deaths} workers died of it one after the other")
                opened.study.tell(trial, state=TrialState.FAIL)

    def _sampled(self, trial: optuna.trial.Trial, *, is_new: bool) -> optuna.trial.Trial:
        """Samples what the trial has not sampled yet; seeded by its number alone.

        A new trial whose setting has run out of memory before is sampled once more, and at random
        where the sampler insists: it learns nothing from failed trials, and what it has not seen
        tempts it.

        Raises:
            SearchFailedError: nothing else comes.
        """
        of = self.objective
        too_large = settings_without_memory(of.opened.trials(TrialState.FAIL), of.space)
        for attempt in range(MOST_ATTEMPTS):
            self._seed_sampler(trial.number, attempt)
            params = of.space.suggest(trial)
            if not is_new or params not in too_large:
                return trial
            of.trial_queue.replica.discard(of.opened.trial_id(trial.number))
            trial = of.opened.study.ask()
        raise SearchFailedError(
            f"whatever is sampled has run out of memory before, such as {params_text(params)}; "
            "leave what is too large out of search.space, or lower training.batch_size or "
            "data.image_px"
        )

    def _seed_sampler(self, trial_number: int, attempt: int = 0) -> None:
        # A sampler is made anew for every trial, so that interruptions change nothing.
        search = self.plan.config.search
        seed = search.seed + attempt * _ATTEMPT_STRIDE
        settings = search.sampler
        if attempt >= INSISTENT and settings.name != LISTED:
            settings = NamedSettings(name="random")
        space = self.objective.space
        sampler = build_sampler(settings, space, seed, trial_number, self.as_pruned)
        self.objective.opened.study.sampler = sampler

    def _check_failures(self, snapshot: StudySnapshot) -> None:
        search = self.plan.config.search
        limit = failure_limit_reached(
            snapshot.outcomes, search.max_failures, search.max_failures_total
        )
        if limit is not None:
            failed = self.objective.opened.trials(TrialState.FAIL)
            last = max(failed, key=lambda trial: (trial.datetime_complete, trial.number))
            reason = last.user_attrs.get(REASON_ATTR, "no reason is known")
            raise SearchFailedError(f"{limit}; the last one, trial {last.number}: {reason}")


def _failing(write_queue: WriteQueue, watcher: SearchWatcher) -> Callable[[Lease, str], None]:
    def on_stall(lease: Lease, reason: str) -> None:
        watcher.note(f"trial {lease.number} fails: {reason}; this worker ends")
        change = TrialChange(
            lease.trial_id, user_attrs={REASON_ATTR: reason}, state=TrialState.FAIL
        )
        write_queue.post(change, lease)
        write_queue.settle(lease, _STALL_RECORD_S)

    return on_stall
