"""One trial: walk the stage tree, report every epoch, and end or pause where the pruner says."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import optuna
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.search.config.space import SearchSpace
from canopy_search.search.errors import StudyPausedError, TrialEndedError
from canopy_search.search.events import SearchWatcher, SharedPrefix, TrialEnd
from canopy_search.search.scheduling.decision import Decision, judge
from canopy_search.search.scheduling.open_study import OpenStudy, accumulation_of, keep_accumulation
from canopy_search.search.trial.stage_tree import RunEpoch, RunPath, StageTree
from canopy_search.search.trial.watchdog import Watchdog
from canopy_search.storage.connection.retry import is_unavailability
from canopy_search.storage.errors import StorageError
from canopy_search.storage.stages.stages import Stage
from canopy_search.storage.study.confirmations import scoring
from canopy_search.storage.study.trial_attributes import (
    DIVERGED,
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
from canopy_search.training.device.out_of_memory import is_out_of_memory, shortage_text
from canopy_search.training.errors import DivergedError, OutOfMemoryError


@dataclass(frozen=True)
class Objective:
    """What every trial of a study has in common, for one worker.

    Attributes:
        opened: the Optuna study.
        pruner: of the study.
        pruner_name: as the configuration has it.
        trial_queue: the study in the database.
        write_queue: takes what is to be written of a trial.
        tree: the stage tree.
        shares: whether trials share stages.
        space: what is searched.
        watcher: is told what happens.
        watchdog: ends this process when a trial makes no progress.
        max_trial_s: training time after which a trial ends, in seconds; None for no limit.
        obeys: whether a pause or an end of the study is for this worker, too.
        tests: whether trials that come to their end are scored on test.
    """

    opened: OpenStudy
    pruner: BasePruner
    pruner_name: str
    trial_queue: TrialQueue
    write_queue: WriteQueue
    tree: StageTree
    shares: bool
    space: SearchSpace
    watcher: SearchWatcher
    watchdog: Watchdog
    max_trial_s: float | None = None
    obeys: bool = True
    tests: bool = False

    def wanted(self) -> str:
        """Returns what a person wants of this worker; see `storage.workers.control`."""
        return self.trial_queue.wanted() if self.obeys else RUN

    def run_trial(self, trial: optuna.trial.Trial) -> TrialEnd:
        """Runs a trial that this worker has leased until it ends or pauses, and records that.

        What is known of its epochs, by itself or by any other trial, is reported and not trained.
        An interrupt leaves the trial as it is.

        Raises:
            LeaseLostError: the trial is another worker's by now; nothing more was written to it.
            DatabaseUnavailableError: the database was away for too long.
            StudyPausedError: a person pauses the study; the trial is released.
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
                reason = f"{self.pruner_name}: hopeless at epoch {len(work.walked)}"
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
            raise  # not the trial's fault: it stays as it is, and somebody goes on with it
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this trial alone
            state, reason = TrialState.FAIL, failure_reason(error)
        return work.end(state, reason)

    def forget(self, number: int) -> None:
        """Removes the tree that a trial had alone, when the study has ended it."""
        trial = self.opened.trials()[number]
        settings = self.space.training_settings(trial.params)
        run_path = self.tree.plan(
            settings,
            self.opened.trial_id(number),
            alone=True,
            accumulation=accumulation_of(trial),
        )
        self.tree.forget(run_path)


@dataclass
class _Work:
    """One trial under way.

    Attributes:
        trial: the running trial.
        lease: of the trial.
        objective: what all trials have in common.
        walked: the epochs that it has come to.
        run_path: its way through the tree, once that is planned.
        trained_before_s: training time that was spent on the trial before, in seconds.
        epoch_began_s: when the epoch under way began, by the monotonic clock.
    """

    trial: optuna.trial.Trial
    lease: Lease
    objective: Objective
    walked: list[RunEpoch] = field(default_factory=list)
    run_path: RunPath | None = None
    trained_before_s: float = 0.0
    epoch_began_s: float = field(default_factory=time.monotonic)

    def run_tree(self) -> Decision:
        """Walks until the pruner decides or the run is over; `walked` gets every epoch."""
        of, number = self.objective, self.trial.number
        params = of.space.canonical(self.trial.params)
        settings = of.space.training_settings(params)
        run_path = of.tree.plan(
            settings,
            self.lease.trial_id,
            alone=not of.shares,
            accumulation=accumulation_of(self.trial),
        )
        self.run_path = run_path
        of.opened.set_stages(number, run_path.keys)
        reported = set(of.trial_queue.replica.get_trial(self.lease.trial_id).intermediate_values)
        self.trained_before_s = sum(
            stage.metrics["train_s"] + stage.metrics["val_s"]
            for stage in run_path.known
            if stage.metrics and self._is_own(stage)
        )
        of.watcher.trial_started(
            number, params, max(reported, default=0), self._shared_prefix(run_path.known)
        )
        epochs = len(run_path.keys)
        branch = of.tree.epochs(
            run_path, self._on_batch, on_cut=partial(self._take_branch, run_path)
        )
        with closing(branch):
            for epoch, step in enumerate(branch, start=1):
                of.watchdog.progress()
                self.walked.append(step)
                if step.is_new:
                    of.watcher.epoch_done(
                        epoch,
                        epochs,
                        step.metrics["val_ap"],
                        of.opened.trial_index().best_at(epoch, besides=number),
                    )
                decision = self._judge(epoch, epochs, step, reported)
                if decision is Decision.PAUSE:
                    return decision
                if step.is_new or decision is not Decision.CONTINUE:
                    self.post()
                    of.write_queue.settle_promptly(self.lease)
                if decision is not Decision.CONTINUE:
                    return decision
                if step.is_new:
                    self._obey(epoch, epochs)
        return Decision.CONTINUE

    def score_test(self) -> None:
        """Scores the trial's model on test, which is written with the end of the trial or not."""
        of = self.objective
        if self.run_path is None or not of.tree.has_test:
            return
        of.watchdog.progress()
        try:
            scores = of.tree.test_scores(self.run_path, self._on_batch)
        except DivergedError as error:  # test decides nothing, so the trial stays complete
            scores = {"test_ap": None, REASON_ATTR: str(error)}
        self.run_path.owed.append(scoring(self.lease.trial_id, scores))

    def post(self, *, releases: bool = False) -> None:
        """Hands in what is new of the trial."""
        trial_queue = self.objective.trial_queue
        change = trial_queue.replica.drain(self.lease.trial_id)
        change.besides += self.run_path.take_owed() if self.run_path else []
        change.releases = releases
        self.objective.write_queue.post(change, self.lease)

    def release(self) -> None:
        """Hands in what is new, and that the trial is nobody's now."""
        self.post(releases=True)
        self.objective.write_queue.settle(self.lease)
        self.objective.trial_queue.give_back(self.lease.trial_id)

    def end(self, state: TrialState, reason: str | None) -> TrialEnd:
        """Records how the trial ended, or that it pauses."""
        of, trial, run_path = self.objective, self.trial, self.run_path
        if reason is not None:
            trial.set_user_attr(REASON_ATTR, reason)
        if run_path is not None and run_path.resumed:
            trial.set_user_attr(RESUMED_ATTR, run_path.resumed)
        val_ap = self.walked[-1].metrics["val_ap"] if self.walked else None
        if state != TrialState.RUNNING:
            value = val_ap if state == TrialState.COMPLETE else None
            of.opened.study.tell(trial, value, state=state)
        self.release()
        if state != TrialState.RUNNING and run_path is not None and not of.shares:
            of.tree.forget(run_path)
        return TrialEnd(
            trial.number,
            state,
            val_ap,
            epochs=len(self.walked),
            trained=run_path.trained if run_path else 0,
            seconds=run_path.trained_s if run_path else 0.0,
            reason=reason,
            shared_prefix=self._shared_prefix(run_path.known[: len(self.walked)])
            if run_path
            else None,
        )

    def _judge(self, epoch: int, epochs: int, step: RunEpoch, reported: set[int]) -> Decision:
        """Reports an epoch and decides, by what the others have done until now."""
        of = self.objective
        if step.is_new and not of.write_queue.is_away:
            try:
                of.trial_queue.refresh()
            except (SQLAlchemyError, StorageInternalError) as error:
                if not is_unavailability(error):
                    raise
        val_ap = step.metrics["val_ap"]
        return judge(self.trial, of.pruner, epoch, epochs, val_ap, reported=reported)

    def _obey(self, epoch: int, epochs: int) -> None:
        """Pauses between two epochs if a person wants the study to."""
        if epoch < epochs and self.objective.wanted() == PAUSE:
            raise StudyPausedError("the study pauses; let it go on with: canopy resume")

    def _on_batch(self, epoch: int, done: int, total: int) -> None:
        of = self.objective
        of.watchdog.progress()
        of.watcher.batch_done(epoch, done, total)
        of.trial_queue.say(self._doing(epoch, done, total))
        if of.wanted() == STOP_PRUNING:
            raise TrialEndedError(STOPPED)
        if done == 1:
            self.epoch_began_s = time.monotonic()
        if of.max_trial_s is not None and self.run_path is not None:
            now_s = time.monotonic()
            spent_s = self.trained_before_s + self.run_path.trained_s + now_s - self.epoch_began_s
            if spent_s > of.max_trial_s:
                raise TrialEndedError(
                    f"{OVERTIME}: {spent_s:.0f} s of training, and {of.max_trial_s:g} are allowed"
                )

    def _take_branch(self, run_path: RunPath, text: str) -> None:
        """Records that the trial's batches are cut now, before any epoch of that branch is.

        Whoever goes on with the trial after a crash then takes the same branch. If the crash comes
        before, they run out of memory in the same place and come to the same branch, or have more
        memory and stay on the one that the trial was on.
        """
        of = self.objective
        of.watchdog.progress()
        keep_accumulation(self.trial, run_path.accumulation)
        of.opened.set_stages(self.trial.number, run_path.keys)
        self.post()
        of.write_queue.settle_promptly(self.lease)
        of.watcher.note(f"trial {self.trial.number}: {text}")

    def _doing(self, epoch: int, done: int, total: int) -> dict[str, int | None]:
        """Returns what this worker does, for `canopy status`."""
        epochs = len(self.run_path.keys) if self.run_path else None
        doing = {"trial": self.trial.number, "epoch": epoch, "epochs": epochs}
        return doing | {"batch": done, "batches": total}

    def _is_own(self, stage: Stage) -> bool:
        study = self.objective.opened.study.study_name
        return stage.study == study and stage.trial_number == self.trial.number

    def _shared_prefix(self, known: Sequence[Stage]) -> SharedPrefix | None:
        """Returns whose epochs a trial begins with, if they are not its own."""
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
    if is_out_of_memory(error):  # before the first step: the network alone has no room
        return f"{OUT_OF_MEMORY}: {shortage_text(error)}"
    return f"{type(error).__name__}: {error}".splitlines()[0]
