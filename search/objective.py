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

from canopy_search.dashboards.summary import (
    DIVERGED,
    OUT_OF_MEMORY,
    OVERTIME,
    REASON_ATTR,
    RESUMED_ATTR,
    STOPPED,
)
from canopy_search.search.errors import StudyPausedError, TrialEndedError
from canopy_search.search.events import SearchWatcher, TrialEnd, Trunk
from canopy_search.search.judging import Verdict, judge
from canopy_search.search.space import SearchSpace
from canopy_search.search.stage_tree import StageTree, Walk, WalkedEpoch
from canopy_search.search.trials import OpenStudy, accumulation_of, keep_accumulation
from canopy_search.search.watchdog import Watchdog
from canopy_search.storage.confirmations import scoring
from canopy_search.storage.control import PAUSE, RUN, STOP_PRUNING
from canopy_search.storage.desk import StudyDesk
from canopy_search.storage.errors import StorageError
from canopy_search.storage.ledger import Ledger
from canopy_search.storage.outages import is_outage
from canopy_search.storage.stages import Stage
from canopy_search.storage.trial_changes import Lease
from canopy_search.training.errors import DivergedError, OutOfMemoryError
from canopy_search.training.out_of_memory import is_out_of_memory, shortage_text


@dataclass(frozen=True)
class Objective:
    """What every trial of a study has in common, for one worker.

    Attributes:
        opened: the Optuna study.
        pruner: of the study.
        pruner_name: as the configuration has it.
        desk: the study in the database.
        ledger: takes what is to be written of a trial.
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
    desk: StudyDesk
    ledger: Ledger
    tree: StageTree
    shares: bool
    space: SearchSpace
    watcher: SearchWatcher
    watchdog: Watchdog
    max_trial_s: float | None = None
    obeys: bool = True
    tests: bool = False

    def wanted(self) -> str:
        """Returns what a person wants of this worker; see `storage.control`."""
        return self.desk.wanted() if self.obeys else RUN

    def run_trial(self, trial: optuna.trial.Trial) -> TrialEnd:
        """Runs a trial that this worker has leased until it ends or pauses, and records that.

        What is known of its epochs, by itself or by any other trial, is reported and not trained.
        An interrupt leaves the trial as it is.

        Raises:
            LeaseLostError: the trial is another worker's by now; nothing more was written to it.
            DatabaseAwayError: the database was away for too long.
            StudyPausedError: a person pauses the study; the trial is released.
        """
        work = _Work(trial, self.desk.lease(self.opened.trial_id(trial.number)), self)
        state, reason = TrialState.COMPLETE, None
        try:
            with self.watchdog.watching(work.lease):
                verdict = work.walk_tree()
                if verdict is Verdict.GO_ON and self.tests:
                    work.score_test()
            if verdict is Verdict.PRUNE:
                state = TrialState.PRUNED
                reason = f"{self.pruner_name}: hopeless at epoch {len(work.walked)}"
            if verdict is Verdict.PAUSE:
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
        walk = self.tree.plan(
            settings,
            self.opened.trial_id(number),
            alone=True,
            accumulation=accumulation_of(trial),
        )
        self.tree.forget(walk)


@dataclass
class _Work:
    """One trial under way.

    Attributes:
        trial: the running trial.
        lease: of the trial.
        objective: what all trials have in common.
        walked: the epochs that it has come to.
        walk: its way through the tree, once that is planned.
        trained_before_s: training time that was spent on the trial before, in seconds.
        epoch_began_s: when the epoch under way began, by the monotonic clock.
    """

    trial: optuna.trial.Trial
    lease: Lease
    objective: Objective
    walked: list[WalkedEpoch] = field(default_factory=list)
    walk: Walk | None = None
    trained_before_s: float = 0.0
    epoch_began_s: float = field(default_factory=time.monotonic)

    def walk_tree(self) -> Verdict:
        """Walks until the pruner decides or the run is over; `walked` gets every epoch."""
        of, number = self.objective, self.trial.number
        params = of.space.canonical(self.trial.params)
        settings = of.space.training_settings(params)
        walk = of.tree.plan(
            settings,
            self.lease.trial_id,
            alone=not of.shares,
            accumulation=accumulation_of(self.trial),
        )
        self.walk = walk
        of.opened.set_stages(number, walk.keys)
        reported = set(of.desk.replica.get_trial(self.lease.trial_id).intermediate_values)
        self.trained_before_s = sum(
            stage.metrics["train_s"] + stage.metrics["val_s"]
            for stage in walk.known
            if stage.metrics and self._is_own(stage)
        )
        of.watcher.trial_started(number, params, max(reported, default=0), self._trunk(walk.known))
        epochs = len(walk.keys)
        branch = of.tree.epochs(walk, self._on_batch, on_cut=partial(self._take_branch, walk))
        with closing(branch):
            for epoch, step in enumerate(branch, start=1):
                of.watchdog.progress()
                self.walked.append(step)
                if step.is_new:
                    of.watcher.epoch_done(
                        epoch,
                        epochs,
                        step.metrics["val_ap"],
                        of.opened.census().best_at(epoch, besides=number),
                    )
                verdict = self._judge(epoch, epochs, step, reported)
                if verdict is Verdict.PAUSE:
                    return verdict
                if step.is_new or verdict is not Verdict.GO_ON:
                    self.post()
                    of.ledger.settle_promptly(self.lease)
                if verdict is not Verdict.GO_ON:
                    return verdict
                if step.is_new:
                    self._obey(epoch, epochs)
        return Verdict.GO_ON

    def score_test(self) -> None:
        """Scores the trial's model on test, which is written with the end of the trial or not."""
        of = self.objective
        if self.walk is None or not of.tree.has_test:
            return
        of.watchdog.progress()
        try:
            scores = of.tree.test_scores(self.walk, self._on_batch)
        except DivergedError as error:  # test decides nothing, so the trial stays complete
            scores = {"test_ap": None, REASON_ATTR: str(error)}
        self.walk.owed.append(scoring(self.lease.trial_id, scores))

    def post(self, *, releases: bool = False) -> None:
        """Hands in what is new of the trial."""
        desk = self.objective.desk
        change = desk.replica.drain(self.lease.trial_id)
        change.besides += self.walk.take_owed() if self.walk else []
        change.releases = releases
        self.objective.ledger.post(change, self.lease)

    def release(self) -> None:
        """Hands in what is new, and that the trial is nobody's now."""
        self.post(releases=True)
        self.objective.ledger.settle(self.lease)
        self.objective.desk.give_back(self.lease.trial_id)

    def end(self, state: TrialState, reason: str | None) -> TrialEnd:
        """Records how the trial ended, or that it pauses."""
        of, trial, walk = self.objective, self.trial, self.walk
        if reason is not None:
            trial.set_user_attr(REASON_ATTR, reason)
        if walk is not None and walk.resumed:
            trial.set_user_attr(RESUMED_ATTR, walk.resumed)
        val_ap = self.walked[-1].metrics["val_ap"] if self.walked else None
        if state != TrialState.RUNNING:
            value = val_ap if state == TrialState.COMPLETE else None
            of.opened.study.tell(trial, value, state=state)
        self.release()
        if state != TrialState.RUNNING and walk is not None and not of.shares:
            of.tree.forget(walk)
        return TrialEnd(
            trial.number,
            state,
            val_ap,
            epochs=len(self.walked),
            trained=walk.trained if walk else 0,
            seconds=walk.trained_s if walk else 0.0,
            reason=reason,
            trunk=self._trunk(walk.known[: len(self.walked)]) if walk else None,
        )

    def _judge(self, epoch: int, epochs: int, step: WalkedEpoch, reported: set[int]) -> Verdict:
        """Reports an epoch and decides, by what the others have done until now."""
        of = self.objective
        if step.is_new and not of.ledger.is_away:
            try:
                of.desk.refresh()
            except (SQLAlchemyError, StorageInternalError) as error:
                if not is_outage(error):
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
        of.desk.say(self._doing(epoch, done, total))
        if of.wanted() == STOP_PRUNING:
            raise TrialEndedError(STOPPED)
        if done == 1:
            self.epoch_began_s = time.monotonic()
        if of.max_trial_s is not None and self.walk is not None:
            now_s = time.monotonic()
            spent_s = self.trained_before_s + self.walk.trained_s + now_s - self.epoch_began_s
            if spent_s > of.max_trial_s:
                raise TrialEndedError(
                    f"{OVERTIME}: {spent_s:.0f} s of training, and {of.max_trial_s:g} are allowed"
                )

    def _take_branch(self, walk: Walk, text: str) -> None:
        """Records that the trial's batches are cut now, before any epoch of that branch is.

        Whoever goes on with the trial after a crash then takes the same branch. If the crash comes
        before, they run out of memory in the same place and come to the same branch, or have more
        memory and stay on the one that the trial was on.
        """
        of = self.objective
        of.watchdog.progress()
        keep_accumulation(self.trial, walk.accumulation)
        of.opened.set_stages(self.trial.number, walk.keys)
        self.post()
        of.ledger.settle_promptly(self.lease)
        of.watcher.note(f"trial {self.trial.number}: {text}")

    def _doing(self, epoch: int, done: int, total: int) -> dict[str, int | None]:
        """Returns what this worker does, for `canopy status`."""
        epochs = len(self.walk.keys) if self.walk else None
        doing = {"trial": self.trial.number, "epoch": epoch, "epochs": epochs}
        return doing | {"batch": done, "batches": total}

    def _is_own(self, stage: Stage) -> bool:
        study = self.objective.opened.study.study_name
        return stage.study == study and stage.trial_number == self.trial.number

    def _trunk(self, known: Sequence[Stage]) -> Trunk | None:
        """Returns whose epochs a trial begins with, if they are not its own."""
        if not known or self._is_own(known[-1]):
            return None
        last = known[-1]
        study = self.objective.opened.study.study_name
        return Trunk(last.epoch, last.trial_number, None if last.study == study else last.study)


def failure_reason(error: Exception) -> str:
    """Returns why a trial failed, on one line."""
    if isinstance(error, OutOfMemoryError):
        return f"{OUT_OF_MEMORY}: {error}"
    if is_out_of_memory(error):  # before the first step: the network alone has no room
        return f"{OUT_OF_MEMORY}: {shortage_text(error)}"
    return f"{type(error).__name__}: {error}".splitlines()[0]
