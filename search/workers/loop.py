"""One worker: claims trials of a study and runs them until nothing is left to do."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.dashboards.formatting.values import params_text, paused_text
from canopy_search.filestore.retry import Retrier
from canopy_search.search.config.settings import NamedSettings
from canopy_search.search.errors import (
    AcceleratorFailedError,
    SearchFailedError,
    SickWorkerError,
    StudyPausedError,
)
from canopy_search.search.events import Emit, Note, SearchStarted, TrialEnded
from canopy_search.search.scheduling.factory import GRID, build_pruner, build_sampler
from canopy_search.search.scheduling.failures import Deaths, Failures, settings_not_repeated
from canopy_search.search.scheduling.fixed_list_sampler import LISTED
from canopy_search.search.scheduling.next_trial import (
    Idle,
    SearchEnd,
    TrialRequest,
    Wanted,
    choose_trial,
    end_left,
    end_paused,
    enqueue_once,
    finished_count,
    is_on_plateau,
    search_end,
    unfit_to_start,
)
from canopy_search.search.scheduling.open_study import OpenStudy, best_ap
from canopy_search.search.scheduling.paused_as_pruned_sampler import AsPruned
from canopy_search.search.scheduling.verification import verifying
from canopy_search.search.study.plan import SearchPlan, StartedStudy
from canopy_search.search.trial.objective import Objective
from canopy_search.search.trial.open_tree import open_tree
from canopy_search.search.trial.watchdog import Watchdog
from canopy_search.storage.database import Database
from canopy_search.storage.errors import LeaseLostError
from canopy_search.storage.study.confirmations import ConfirmationStore
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import (
    FAILED_AT_ATTR,
    LETHAL,
    REASON_ATTR,
    STOPPED,
    is_left_out,
)
from canopy_search.storage.study.trial_changes import Lease, TrialChange
from canopy_search.storage.study.trial_queue import StudySnapshot, TrialQueue
from canopy_search.storage.study.write_queue import WriteQueue
from canopy_search.storage.workers.control import PAUSE, RUN, STOP_PRUNING
from canopy_search.storage.workers.session import WorkerSession

MOST_DEATHS = 4
"""A trial fails after this many deaths of its workers without an epoch in between."""

RANDOM_AFTER, MAX_ATTEMPTS = 5, 100
"""A configuration that ran out of memory or is lethal is not started again: another one is sampled,
at random after the first number of attempts; the search fails after the second."""

_ATTEMPT_STRIDE = 2**32
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 2.0
_STALL_RECORD_S = 10.0
_Choice = optuna.trial.Trial | Literal[Idle.WAIT]


@contextmanager
def open_objective(
    started: StartedStudy,
    database: Database,
    emit: Emit,
    retrier: Retrier,
    *,
    obeys: bool = True,
) -> Iterator[Objective]:
    """Opens everything that a worker needs to run trials of a started study.

    Args:
        started: the study.
        database: opened and migrated.
        emit: receives the events.
        retrier: repeats calls while the database is unavailable.
        obeys: whether this worker pauses or stops with the study.
    """
    plan = started.plan
    search = plan.config.search
    with ExitStack() as stack:
        trial_queue, session = retrier.call(lambda: _connect(plan, database))
        stack.push(lambda _type, error, _traceback: _leave(session, error))
        write_queue = WriteQueue(trial_queue.write, retrier)
        stack.callback(write_queue.close)
        on_stall = _stall_handler(write_queue, session.place, emit)
        watchdog = Watchdog(search.stall_s, on_stall)
        retrier.alive = watchdog.progress
        tree = stack.enter_context(open_tree(started, database, session, retrier))
        pruner = build_pruner(search.pruner, plan.config.training.epochs)
        study = optuna.load_study(study_name=plan.study, storage=trial_queue.replica, pruner=pruner)
        tests = retrier.call(lambda: ConfirmationStore(database).confirms(plan.study))
        yield Objective(
            OpenStudy(study, trial_queue.replica),
            pruner,
            search.pruner.name,
            trial_queue,
            write_queue,
            tree,
            plan.config.stages.enabled,
            plan.space,
            emit,
            watchdog,
            search.max_trial_s,
            obeys,
            tests,
        )


def _leave(session: WorkerSession, error: BaseException | None) -> None:
    """Ends a session, and records an error of the worker's own."""
    match error:
        case AcceleratorFailedError():
            session.close(str(error), error.trial_number)
        case SickWorkerError():
            session.close(str(error))
        case _:
            session.close()


def _connect(plan: SearchPlan, database: Database) -> tuple[TrialQueue, WorkerSession]:
    """Opens both connections of a worker or none; with only one each, workers could deadlock.

    Raises:
        SQLAlchemyError: the database is unavailable.
    """
    store = StudyStore(database)
    try:
        study_id = store.study_id(plan.study)
        session = WorkerSession(
            database.url, study_id=study_id, slot=plan.slot, throttle=database.throttle
        )
        if plan.worker_id is not None:
            session.identify(plan.worker_id)
        session.register()
        try:
            trial_queue = store.open_trial_queue(plan.study, session)
        except SQLAlchemyError:
            session.unregister()
            raise
    except SQLAlchemyError:
        database.close()
        raise
    session.start()
    return trial_queue, session


def work(plan: SearchPlan, objective: Objective, retrier: Retrier) -> SearchEnd:
    """Runs trials until nothing is left to do, and returns why.

    Raises:
        SearchFailedError: too many trials failed.
        SickWorkerError: too many trials failed on this worker, while others are healthy.
        AcceleratorFailedError: this process must end; its trial is released.
        DatabaseUnavailableError: the database was unavailable for too long.
    """
    return _Worker(plan, objective, retrier).run()


@dataclass
class _Worker:
    """The loop of one worker."""

    plan: SearchPlan
    objective: Objective
    retrier: Retrier
    is_waiting: bool = False
    is_enqueued: bool = False
    wait_s: float = _FIRST_WAIT_S
    as_pruned: AsPruned = field(default_factory=AsPruned)
    sampler_of: tuple[int, int] | None = None
    lethal: list[TrialEnded] = field(default_factory=list)
    named: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        config = self.plan.config
        share, epochs = config.search.verified_share, config.training.epochs
        self.verification = verifying(share, epochs, self.objective.pruner)

    def run(self) -> SearchEnd:
        """Runs trials until nothing is left to do, and returns why."""
        is_first = True
        while not isinstance(trial := self._next(), SearchEnd):
            if is_first:
                is_first = False
                self._emit_start()
            if trial is Idle.WAIT:
                self._wait()
                continue
            self.is_waiting, self.wait_s = False, _FIRST_WAIT_S
            try:
                self.objective.emit(self.objective.run_trial(trial))
            except LeaseLostError as error:
                self.objective.trial_queue.give_back(self.objective.opened.trial_id(trial.number))
                self.objective.emit(Note(f"{error}; this worker continues with another trial"))
            except StudyPausedError:
                self.objective.tree.drop()
            self.objective.trial_queue.session.set_progress(None)
        return trial

    def _next(self) -> _Choice | SearchEnd:
        """Decides what to do next, with retries while the database is unavailable."""
        try:
            return self.retrier.call(self._claim)
        except LeaseLostError as error:  # a trial was ended with plain Optuna
            self.objective.emit(Note(str(error)))
            return Idle.WAIT

    def _emit_start(self) -> None:
        plan, trials = self.plan, self.objective.opened.trials()
        finished = finished_count(trials)
        self.objective.emit(SearchStarted(plan.study, finished, plan.n_trials, best_ap(trials)))

    def _emit_lethal_trials(self) -> None:
        for end in self.lethal:
            self.objective.emit(end)
            if not self.objective.shares:
                self.objective.forget(end.number)

    def _wait(self) -> None:
        session = self.objective.trial_queue.session
        is_paused = session.wanted == PAUSE
        if not self.is_waiting:
            self.is_waiting = True
            waiting = "nothing to start now; waiting for the other workers"
            self.objective.emit(Note(paused_text(self.plan.study) if is_paused else waiting))
        while True:
            time.sleep(random.uniform(0.5, 1) * self.wait_s)
            self.wait_s = min(max(_LONGEST_WAIT_S, session.longest_pause_s), 2 * self.wait_s)
            # The heartbeat updates the control word, so a resumed study is noticed here.
            if not (is_paused and session.wanted == PAUSE):
                return

    def _claim(self) -> _Choice | SearchEnd:
        """Decides what to do next, under the lock of the trial queue."""
        objective, search = self.objective, self.plan.config.search
        opened = objective.opened
        self.sampler_of = None  # a claim that is repeated draws the same values
        self.lethal = []
        with objective.trial_queue.locked() as snapshot:
            if snapshot.control == PAUSE:
                return Idle.WAIT
            self._leave_out()
            self._fail_lethal_trials(snapshot)
            self._check_failures(snapshot)
            # Once all are enqueued, there is no need to check again.
            self.is_enqueued = self.is_enqueued or not enqueue_once(opened.study, search.enqueued)
            known_trials = len(opened.trials())
            trial = self._select(snapshot)
            ended = end_paused(opened, objective.pruner_name) if trial is Idle.DONE else []
            if isinstance(trial, optuna.trial.Trial):
                trial = self._sampled(trial, is_new=trial.number >= known_trials)
                snapshot.taken = trial.number
        self._emit_lethal_trials()
        if trial is not Idle.DONE:
            return trial
        if ended:
            objective.emit(Note(f"{len(ended)} paused trials are marked pruned"))
            for number in [] if objective.shares else ended:
                objective.forget(number)
        wanted = Wanted(self.plan.n_trials, snapshot.target, snapshot.control)
        return search_end(opened.trials(), wanted, search)

    def _leave_out(self) -> None:
        """Leaves out waiting trials that cannot start, and names what is left out, once."""
        objective, opened = self.objective, self.objective.opened
        samples = self.plan.config.search.sampler.name not in {GRID, LISTED}
        for trial in opened.trials(TrialState.WAITING):
            problem = unfit_to_start(trial, objective.space, samples=samples)
            if problem is not None:
                objective.trial_queue.replica.leave_out(trial._trial_id, problem)
        for trial in opened.trials(TrialState.FAIL):
            if is_left_out(trial) and trial.number not in self.named:
                self.named.add(trial.number)
                objective.emit(Note(f"trial {trial.number} is {trial.user_attrs[REASON_ATTR]}"))

    def _select(self, snapshot: StudySnapshot) -> optuna.trial.Trial | Idle:
        objective, search = self.objective, self.plan.config.search
        opened = objective.opened
        if snapshot.mine:  # claimed, but the connection broke before the reply arrived
            return opened.resume(min(snapshot.mine))
        if snapshot.control == STOP_PRUNING:
            end_left(opened, snapshot.owned, STOPPED)
            return Idle.WAIT if snapshot.owned else Idle.DONE
        trials = opened.trials()
        self._seed_sampler(len(trials))
        return choose_trial(
            opened,
            objective.pruner,
            TrialRequest(
                snapshot.target or self.plan.n_trials,
                snapshot.owned | self._left_to_others(snapshot),
                snapshot.suspected,
                begins=snapshot.control == RUN,
                searches=not is_on_plateau(trials, search.stop_when.no_improvement_trials),
            ),
            self.verification,
        )

    def _fail_lethal_trials(self, snapshot: StudySnapshot) -> None:
        """Fails trials whose workers died repeatedly, so that they do not stop all workers."""
        objective = self.objective
        for number, deaths in self._deaths(snapshot).items():
            if deaths.is_lethal(MOST_DEATHS) and number not in snapshot.leased:
                reason = f"{LETHAL}: {deaths.count} in a row died while running it"
                self.lethal.append(objective.fail(number, reason))

    def _left_to_others(self, snapshot: StudySnapshot) -> set[int]:
        """Returns trials that other workers should try first, because they may be healthier."""
        place = self.objective.trial_queue.session.place
        deaths = self._deaths(snapshot)
        return {number for number in deaths if deaths[number].is_left_to_others(place)}

    @staticmethod
    def _deaths(snapshot: StudySnapshot) -> dict[int, Deaths]:
        return {
            number: Deaths(count, snapshot.died_at[number], snapshot.places)
            for number, count in snapshot.deaths.items()
        }

    def _sampled(self, trial: optuna.trial.Trial, *, is_new: bool) -> optuna.trial.Trial:
        """Samples the missing parameters of the trial; the seed depends only on its number.

        A new trial whose configuration ran out of memory or was lethal is sampled again. The
        sampler ignores failed trials and may repeat it, so later attempts are random.

        Raises:
            SearchFailedError: every attempt gave such a configuration.
        """
        objective = self.objective
        opened = objective.opened
        excluded = settings_not_repeated(opened.trials(TrialState.FAIL), objective.space)
        for attempt in range(MAX_ATTEMPTS):
            self._seed_sampler(trial.number, attempt)
            params = objective.space.suggest(trial)
            if not is_new or params not in excluded:
                return trial
            objective.trial_queue.replica.discard(opened.trial_id(trial.number))
            trial = opened.study.ask()
        raise SearchFailedError(
            "every sampled configuration has run out of memory or ended its workers, such as "
            f"{params_text(params)}; remove such values from search.space, or lower "
            "training.batch_size or data.image_px"
        )

    def _seed_sampler(self, trial_number: int, attempt: int = 0) -> None:
        # Each trial gets a new sampler, so that interruptions do not change the results.
        if self.sampler_of == (trial_number, attempt):
            return
        self.sampler_of = trial_number, attempt
        search = self.plan.config.search
        seed = search.seed + attempt * _ATTEMPT_STRIDE
        settings = search.sampler
        if attempt >= RANDOM_AFTER and settings.name != LISTED:
            settings = NamedSettings(name="random")
        space = self.objective.space
        sampler = build_sampler(settings, space, seed, trial_number, self.as_pruned)
        self.objective.opened.study.sampler = sampler

    def _check_failures(self, snapshot: StudySnapshot) -> None:
        search, opened = self.plan.config.search, self.objective.opened
        failures = Failures.of(snapshot.outcomes, opened.trials(), snapshot.places)
        limit = failures.limit_reached(search.max_failures, search.max_failures_total)
        place = self.objective.trial_queue.session.place
        is_sick = limit is None and failures.is_sick(place, search.max_failures)
        if limit is None and not is_sick:
            return
        failed = [trial for trial in opened.trials(TrialState.FAIL) if not is_left_out(trial)]
        if is_sick:
            failed = [t for t in failed if t.user_attrs.get(FAILED_AT_ATTR) == place] or failed
        last = max(failed, key=lambda t: (t.datetime_complete or datetime.min, t.number))
        reason = last.user_attrs.get(REASON_ATTR, "no reason was recorded")
        if is_sick:
            raise SickWorkerError(
                f"{search.max_failures} trials failed in a row on {place}, while other workers are "
                f"healthy; the last one, trial {last.number}: {reason}"
            )
        raise SearchFailedError(f"{limit}; the last one, trial {last.number}: {reason}")


def _stall_handler(write_queue: WriteQueue, place: str, emit: Emit) -> Callable[[Lease, str], None]:
    def on_stall(lease: Lease, reason: str) -> None:
        emit(Note(f"trial {lease.number} failed: {reason}; this worker exits"))
        change = TrialChange(
            lease.trial_id,
            user_attrs={REASON_ATTR: reason, FAILED_AT_ATTR: place},
            state=TrialState.FAIL,
        )
        write_queue.post(change, lease)
        write_queue.wait_until_written(lease, _STALL_RECORD_S)

    return on_stall
