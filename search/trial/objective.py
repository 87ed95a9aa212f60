"""Runs one trial: trains or replays its epochs, reports each, and ends or pauses it."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

import optuna
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.dashboards.formatting.values import paused_text
from canopy_search.filestore.messages import first_line
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.errors import (
    AcceleratorFailedError,
    StudyPausedError,
    TrialEndedError,
)
from canopy_search.search.events import (
    BatchDone,
    Emit,
    EpochDone,
    Note,
    SharedPrefix,
    TrialEnded,
    TrialStarted,
)
from canopy_search.search.scheduling.decision import Decision, report_and_decide
from canopy_search.search.scheduling.open_study import (
    OpenStudy,
    accumulation_of,
    best_ap,
    keep_accumulation,
)
from canopy_search.search.trial.stage_tree import RunEpoch, RunPath, StageTree
from canopy_search.search.trial.watchdog import Watchdog
from canopy_search.storage.connection.retry import is_unavailability
from canopy_search.storage.errors import StorageError
from canopy_search.storage.stages.stages import Stage
from canopy_search.storage.study.confirmations import scoring
from canopy_search.storage.study.trial_attributes import (
    DIVERGED,
    FAILED_AT_ATTR,
    OUT_OF_MEMORY,
    OVERTIME,
    REASON_ATTR,
    RESUMED_ATTR,
    STOPPED,
)
from canopy_search.storage.study.trial_changes import Lease
from canopy_search.storage.study.trial_queue import TrialQueue
from canopy_search.storage.study.write_queue import WriteQueue
from canopy_search.storage.workers.control import PAUSE, RUN, STOP_PRUNING
from canopy_search.training.device.accelerator_failure import is_accelerator_failure
from canopy_search.training.device.out_of_memory import is_out_of_memory, shortage_text
from canopy_search.training.errors import DivergedError, OutOfMemoryError


@dataclass(frozen=True)
class Objective:
    """What all trials of a study have in common, for one worker.

    Attributes:
        opened: the Optuna study.
        pruner: of the study.
        pruner_name: as written in the configuration.
        trial_queue: the study in the database.
        write_queue: writes the changes of a trial to the database.
        tree: the stage tree.
        shares: whether trials share stages.
        space: the search space.
        emit: receives the events.
        watchdog: ends this process if a trial makes no progress.
        max_trial_s: training time after which a trial ends, in seconds; None for no limit.
        obeys: whether pausing or stopping the study also applies to this worker.
        tests: whether fully trained trials are scored on test.
    """

    opened: OpenStudy
    pruner: BasePruner
    pruner_name: str
    trial_queue: TrialQueue
    write_queue: WriteQueue
    tree: StageTree
    shares: bool
    space: SearchSpace
    emit: Emit
    watchdog: Watchdog
    max_trial_s: float | None = None
    obeys: bool = True
    tests: bool = False

    def wanted(self) -> str:
        """Returns the requested state of this worker; see `storage.workers.control`."""
        return self.trial_queue.session.wanted if self.obeys else RUN

    def run_trial(self, trial: optuna.trial.Trial) -> TrialEnded:
        """Runs a trial that this worker has leased until it ends or pauses, and records that.

        Epochs that this or any other trial has trained are replayed: reported, not trained again.
        An interrupt leaves the trial as it is.

        Raises:
            LeaseLostError: another worker has the trial now; nothing more was written to it.
            DatabaseUnavailableError: the database was unavailable for too long.
            StudyPausedError: the user paused the study; the trial is released.
            AcceleratorFailedError: this process must end; the trial is released, unharmed.
        """
        work = _Work(trial, self.trial_queue.lease(self.opened.trial_id(trial.number)), self)
        state, reason = TrialState.COMPLETE, None
        try:
            with self.watchdog.watching(work.lease):
                decision = work.run_tree()
                if decision is Decision.CONTINUE and self.tests:
                    work.score_test()
            if decision is Decision.STOP:
                state = TrialState.PRUNED
                reason = f"{self.pruner_name}: hopeless at epoch {len(work.epochs_done)}"
            if decision is Decision.PAUSE:
                state = TrialState.RUNNING
        except DivergedError as error:
            state, reason = TrialState.PRUNED, f"{DIVERGED}: {error}"
        except TrialEndedError as error:
            state, reason = TrialState.PRUNED, str(error)
        except StudyPausedError:
            work.release()
            raise
        except (StorageError, SQLAlchemyError, StorageInternalError):
            raise  # not the trial's fault: it stays as it is, and another worker resumes it
        except Exception as error:
            if is_accelerator_failure(error):
                work.release(is_death=True)
                raise AcceleratorFailedError(failure_reason(error), trial.number) from error
            state, reason = TrialState.FAIL, failure_reason(error)
        return work.end(state, reason)

    def fail(self, number: int, reason: str) -> TrialEnded:
        """Records that a trial without a worker failed; to be called under the queue's lock."""
        trial = self.opened.resume(number)
        trial.set_user_attr(REASON_ATTR, reason)
        trial.set_user_attr(FAILED_AT_ATTR, self.trial_queue.session.place)
        frozen = self.opened.study.tell(trial, state=TrialState.FAIL)
        values = frozen.intermediate_values
        return TrialEnded(
            number,
            self.space.canonical(frozen.params),
            TrialState.FAIL,
            values.get(max(values, default=0)),
            epochs=len(values),
            trained=0,
            seconds=0.0,
            settled=self.opened.trial_index().settled,
            best=best_ap(self.opened.study.get_trials(deepcopy=False)),
            reason=reason,
        )

    def forget(self, number: int) -> None:
        """Removes the stages of a trial that shares none, after the study has ended it."""
        trial = self.opened.trials()[number]
        settings = self.space.training_settings(self.space.canonical(trial.params))
        run_path = self.tree.plan(
            settings,
            self.opened.trial_id(number),
            alone=True,
            accumulation=accumulation_of(trial),
        )
        self.tree.forget(run_path)


@dataclass
class _Work:
    """One running trial.

    Attributes:
        trial: the running trial.
        lease: of the trial.
        objective: what all trials have in common.
        epochs_done: the epochs that it has reached.
        run_path: its path in the stage tree, once planned.
        trained_before_s: training time spent on the trial by earlier workers, in seconds.
        epoch_started_s: when the current epoch started, by the monotonic clock.
    """

    trial: optuna.trial.Trial
    lease: Lease
    objective: Objective
    epochs_done: list[RunEpoch] = field(default_factory=list)
    run_path: RunPath | None = None
    trained_before_s: float = 0.0
    epoch_started_s: float = field(default_factory=time.monotonic)

    def run_tree(self) -> Decision:
        """Runs epochs until the pruner decides or the run is over; fills `epochs_done`."""
        objective, number = self.objective, self.trial.number
        params = objective.space.canonical(self.trial.params)
        settings = objective.space.training_settings(params)
        run_path = objective.tree.plan(
            settings,
            self.lease.trial_id,
            alone=not objective.shares,
            accumulation=accumulation_of(self.trial),
        )
        self.run_path = run_path
        objective.opened.set_stages(number, run_path.keys)
        reported = set(
            objective.trial_queue.replica.get_trial(self.lease.trial_id).intermediate_values
        )
        self.trained_before_s = sum(
            stage.metrics["train_s"] + stage.metrics["val_s"]
            for stage in run_path.known
            if stage.metrics and self._is_own(stage)
        )
        from_epoch = max(reported, default=0)
        shared_prefix = self._shared_prefix(run_path.known)
        objective.emit(TrialStarted(number, params, from_epoch, shared_prefix))
        epochs = len(run_path.keys)
        branch = objective.tree.epochs(
            run_path, self._on_batch, on_cut=partial(self._take_branch, run_path)
        )
        with closing(branch):
            for epoch, step in enumerate(branch, start=1):
                objective.watchdog.progress()
                self.epochs_done.append(step)
                done = EpochDone(epoch, epochs, step.metrics["val_ap"])
                if step.is_new:
                    best = objective.opened.trial_index().best_at(epoch, except_number=number)
                    objective.emit(replace(done, best_of_others=best))
                    self._refresh()
                decision = report_and_decide(self.trial, objective.pruner, done, reported)
                if decision is Decision.PAUSE:
                    return decision
                if step.is_new or decision is not Decision.CONTINUE:
                    self.queue_changes()
                    objective.write_queue.wait_shortly_until_written(self.lease)
                if decision is not Decision.CONTINUE:
                    return decision
                if step.is_new:
                    self._obey(epoch, epochs)
        return Decision.CONTINUE

    def score_test(self) -> None:
        """Scores the trial's model on test; the scores are written with the end of the trial."""
        objective = self.objective
        if self.run_path is None or not objective.tree.has_test:
            return
        objective.watchdog.progress()
        try:
            scores = objective.tree.test_scores(self.run_path, self._on_batch)
        # Test scores decide nothing, so the trial stays complete.
        except (DivergedError, OutOfMemoryError) as error:
            scores = {"test_ap": None, REASON_ATTR: str(error)}
        self.run_path.pending_writes.append(scoring(self.lease.trial_id, scores))

    def queue_changes(self, *, releases: bool = False, is_death: bool = False) -> None:
        """Puts the changes of the trial into the write queue."""
        trial_queue = self.objective.trial_queue
        change = trial_queue.replica.drain(self.lease.trial_id)
        change.besides += self.run_path.take_pending_writes() if self.run_path else []
        change.releases, change.is_death = releases, is_death
        self.objective.write_queue.post(change, self.lease)

    def release(self, *, is_death: bool = False) -> None:
        """Writes the changes and gives the trial's lease back.

        Args:
            is_death: whether this process ends with it.
        """
        self.queue_changes(releases=True, is_death=is_death)
        self.objective.write_queue.wait_until_written(self.lease)
        self.objective.trial_queue.give_back(self.lease.trial_id)

    def end(self, state: TrialState, reason: str | None) -> TrialEnded:
        """Records how the trial ended, or that it is paused."""
        objective, trial, run_path = self.objective, self.trial, self.run_path
        if reason is not None:
            trial.set_user_attr(REASON_ATTR, reason)
        if state == TrialState.FAIL:
            trial.set_user_attr(FAILED_AT_ATTR, objective.trial_queue.session.place)
        if run_path is not None and run_path.resumed:
            trial.set_user_attr(RESUMED_ATTR, run_path.resumed)
        val_ap = self.epochs_done[-1].metrics["val_ap"] if self.epochs_done else None
        if state != TrialState.RUNNING:
            value = val_ap if state == TrialState.COMPLETE else None
            objective.opened.study.tell(trial, value, state=state)
        self.release()
        if state != TrialState.RUNNING and run_path is not None and not objective.shares:
            objective.tree.forget(run_path)
        return TrialEnded(
            trial.number,
            objective.space.canonical(trial.params),
            state,
            val_ap,
            epochs=len(self.epochs_done),
            trained=run_path.trained if run_path else 0,
            seconds=run_path.trained_s if run_path else 0.0,
            settled=objective.opened.trial_index().settled,
            best=best_ap(objective.opened.study.get_trials(deepcopy=False)),
            reason=reason,
            shared_prefix=self._shared_prefix(run_path.known[: len(self.epochs_done)])
            if run_path
            else None,
        )

    def _refresh(self) -> None:
        """Reads what all other trials have reported so far, unless the database is unavailable."""
        if not self.objective.write_queue.is_retrying:
            try:
                self.objective.trial_queue.refresh()
            except (SQLAlchemyError, StorageInternalError) as error:
                if not is_unavailability(error):
                    raise

    def _obey(self, epoch: int, epochs: int) -> None:
        """Pauses between two epochs if the user paused the study."""
        if epoch < epochs and self.objective.wanted() == PAUSE:
            raise StudyPausedError(paused_text(self.objective.opened.study.study_name))

    def _on_batch(self, epoch: int, done: int, total: int) -> None:
        objective = self.objective
        objective.watchdog.progress()
        objective.emit(BatchDone(epoch, done, total))
        objective.trial_queue.session.set_progress(self._doing(epoch, done, total))
        if objective.wanted() == STOP_PRUNING:
            raise TrialEndedError(STOPPED)
        if done == 1:
            self.epoch_started_s = time.monotonic()
        if objective.max_trial_s is not None and self.run_path is not None:
            now_s = time.monotonic()
            spent_s = self.trained_before_s + self.run_path.trained_s + now_s - self.epoch_started_s
            if spent_s > objective.max_trial_s:
                raise TrialEndedError(
                    f"{OVERTIME}: {spent_s:.0f} s of training; "
                    f"at most {objective.max_trial_s:g} s are allowed"
                )

    def _take_branch(self, run_path: RunPath, text: str) -> None:
        """Records that the trial's batches are split, before any epoch of that branch is recorded.

        A worker that resumes the trial after a crash then takes the same branch. If the crash comes
        earlier, that worker runs out of memory at the same point and takes the same branch, or has
        more memory and stays on the trial's previous branch.
        """
        objective = self.objective
        objective.watchdog.progress()
        keep_accumulation(self.trial, run_path.accumulation)
        objective.opened.set_stages(self.trial.number, run_path.keys)
        self.queue_changes()
        objective.write_queue.wait_shortly_until_written(self.lease)
        objective.emit(Note(f"trial {self.trial.number}: {text}"))

    def _doing(self, epoch: int, done: int, total: int) -> dict[str, int | None]:
        """Returns the progress of this worker, for `canopy status`."""
        epochs = len(self.run_path.keys) if self.run_path else None
        doing = {"trial": self.trial.number, "epoch": epoch, "epochs": epochs}
        return doing | {"batch": done, "batches": total}

    def _is_own(self, stage: Stage) -> bool:
        study = self.objective.opened.study.study_name
        return stage.study == study and stage.trial_number == self.trial.number

    def _shared_prefix(self, known: Sequence[Stage]) -> SharedPrefix | None:
        """Returns which trial trained the first epochs of this one, if it was another."""
        if not known or self._is_own(known[-1]):
            return None
        last = known[-1]
        study = self.objective.opened.study.study_name
        return SharedPrefix(
            last.epoch, last.trial_number, None if last.study == study else last.study
        )


def failure_reason(error: Exception) -> str:
    """Returns why a trial failed, on one line."""
    if isinstance(error, OutOfMemoryError):
        return f"{OUT_OF_MEMORY}: {error}"
    if is_out_of_memory(error):  # before the first step: the network alone does not fit
        return f"{OUT_OF_MEMORY}: {shortage_text(error)}"
    return first_line(f"{type(error).__name__}: {error}")
