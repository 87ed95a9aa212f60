"""One trial: walk the stage tree, report every epoch, and end or pause where the pruner says."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from dashboards.summary import DIVERGED, REASON_ATTR, RESUMED_ATTR
from search.events import SearchWatcher, TrialEnd, Trunk
from search.judging import Verdict, judge
from search.space import SearchSpace
from search.stage_tree import StageTree, Walk, WalkedEpoch
from search.trials import OpenStudy
from storage.connecting import DATABASE_FAILURES
from storage.errors import StudyLockLostError
from storage.stages import Stage
from storage.studies import StudyStore
from training.errors import DivergedError


@dataclass(frozen=True)
class Objective:
    """What every trial of a study has in common.

    Attributes:
        opened: the Optuna study.
        pruner: of the study.
        pruner_name: as the configuration has it.
        store: where metrics are kept.
        tree: the stage tree.
        shares: whether trials share stages.
        worker: number of this process's session.
        space: what is searched.
        watcher: is told what happens.
    """

    opened: OpenStudy
    pruner: BasePruner
    pruner_name: str
    store: StudyStore
    tree: StageTree
    shares: bool
    worker: int
    space: SearchSpace
    watcher: SearchWatcher

    def run_trial(self, trial: optuna.trial.Trial) -> TrialEnd:
        """Runs `trial` until it ends or pauses, and records that.

        What is known of its epochs, by itself or by any other trial, is reported and not trained.
        An interrupt leaves the trial as it is.
        """
        trial_id = self.opened.trial_id(trial.number)
        self.store.set_worker(trial_id, self.worker)
        walked: list[WalkedEpoch] = []
        state, reason = TrialState.COMPLETE, None
        walk = None
        try:
            params = self.space.suggest(trial)
            settings = self.space.training_settings(params)
            walk = self.tree.plan(settings, trial_id, alone=not self.shares)
            self.opened.set_stages(trial.number, walk.keys)
            reported = self.store.reported_epochs(trial_id)
            trunk = self._trunk(walk.known, trial.number)
            self.watcher.trial_started(trial.number, params, max(reported, default=0), trunk)
            verdict = self._walk(trial, trial_id, walk, reported, walked)
            if verdict is Verdict.PRUNE:
                state = TrialState.PRUNED
                reason = f"{self.pruner_name}: hopeless at epoch {len(walked)}"
            if verdict is Verdict.PAUSE:
                state = TrialState.RUNNING
        except DivergedError as error:
            state, reason = TrialState.PRUNED, f"{DIVERGED}: {error}"
        except (*DATABASE_FAILURES, StudyLockLostError):
            raise  # not the trial's fault: it stays as it is, and the next search goes on with it
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this trial alone
            state, reason = TrialState.FAIL, failure_reason(error)
        if reason is not None:
            trial.set_user_attr(REASON_ATTR, reason)
        if walk is not None and walk.resumed:
            trial.set_user_attr(RESUMED_ATTR, walk.resumed)
        val_ap = walked[-1].metrics["val_ap"] if walked else None
        if state != TrialState.RUNNING:
            value = val_ap if state == TrialState.COMPLETE else None
            self.opened.study.tell(trial, value, state=state)
            if walk is not None and not self.shares:
                self.tree.forget(walk)
        self.store.set_worker(trial_id, None)
        return TrialEnd(
            trial.number,
            state,
            val_ap,
            epochs=len(walked),
            trained=walk.trained if walk else 0,
            seconds=walk.trained_s if walk else 0.0,
            reason=reason,
            trunk=self._trunk(walk.known[: len(walked)], trial.number) if walk else None,
        )

    def forget(self, number: int) -> None:
        """Removes the tree that a trial had alone, when the study has ended it."""
        trial = self.opened.trials()[number]
        settings = self.space.training_settings(trial.params)
        self.tree.forget(self.tree.plan(settings, self.opened.trial_id(number), alone=True))

    def _walk(
        self,
        trial: optuna.trial.Trial,
        trial_id: int,
        walk: Walk,
        reported: set[int],
        walked: list[WalkedEpoch],
    ) -> Verdict:
        """Walks until the pruner decides or the run is over; `walked` gets every epoch."""
        epochs = len(walk.keys)
        with closing(self.tree.epochs(walk, self.watcher.batch_done)) as branch:
            for epoch, step in enumerate(branch, start=1):
                if not step.is_new:
                    self.store.replay_epoch(trial_id, epoch, step.metrics, step.key)
                walked.append(step)
                val_ap = step.metrics["val_ap"]
                if step.is_new:
                    rival = best_at_epoch(self.opened, epoch, besides=trial.number)
                    self.watcher.epoch_done(epoch, epochs, val_ap, rival)
                verdict = judge(trial, self.pruner, epoch, epochs, val_ap, reported=reported)
                if verdict is not Verdict.GO_ON:
                    return verdict
        return Verdict.GO_ON

    def _trunk(self, known: Sequence[Stage], number: int) -> Trunk | None:
        """Returns whose epochs a trial begins with, if they are not its own."""
        if not known:
            return None
        last = known[-1]
        study = self.opened.study.study_name
        if last.study == study and last.trial_number == number:
            return None
        return Trunk(last.epoch, last.trial_number, None if last.study == study else last.study)


def failure_reason(error: Exception) -> str:
    """Returns why a trial failed, on one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def best_at_epoch(opened: OpenStudy, epoch: int, besides: int) -> float | None:
    """Returns the best AP that any other trial reported at `epoch`."""
    values = [
        trial.intermediate_values[epoch]
        for trial in opened.trials()
        if trial.number != besides and epoch in trial.intermediate_values
    ]
    return max(values, default=None)
