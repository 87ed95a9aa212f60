"""One trial: train, report, prune; what is known already is not trained again."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from dashboards.summary import DIVERGED, REASON_ATTR
from search.events import SearchWatcher, TrialEnd
from search.space import SearchSpace
from storage.connecting import DATABASE_FAILURES
from storage.errors import StudyLockLostError
from storage.locks import StudyLock
from storage.studies import StudyStore
from training.checkpoint import read_checkpoint, write_checkpoint
from training.data.dataset import Dataset
from training.errors import CheckpointError, DivergedError
from training.run import TrainingRun
from training.settings import TrainingSettings
from training.stage_key import stage_keys


@dataclass(frozen=True)
class Objective:
    """What every trial of a study has in common.

    Attributes:
        study: the Optuna study.
        store: where metrics are kept.
        lock: holds the study for this process.
        space: what is searched.
        dataset: the images and labels.
        checkpoints: folder of the study's own, for the state of the running trial.
        watcher: is told what happens.
    """

    study: optuna.Study
    store: StudyStore
    lock: StudyLock
    space: SearchSpace
    dataset: Dataset
    checkpoints: Path
    watcher: SearchWatcher

    def run_trial(self, trial: optuna.trial.Trial) -> TrialEnd:
        """Runs `trial` to its end and records the end.

        A trial that was left behind repeats at most one epoch: known epochs are reported again, and
        training goes on from its checkpoint. An interrupt leaves the trial as it is.
        """
        trial_id = self.store.trial_id(self.study.study_name, trial.number)
        history: list[dict[str, Any]] = []
        state, reason = TrialState.COMPLETE, None
        try:
            params = self.space.suggest(trial)
            settings = self.space.training_settings(params)
            known = self.store.trial_epochs(trial_id)
            reported = self.store.reported_epochs(trial_id)
            self.watcher.trial_started(trial.number, params, len(known))
            for metrics in self._epochs(settings, trial_id, known):
                history.append(metrics)
                if self._is_hopeless(trial, metrics, settings.epochs, reported):
                    state = TrialState.PRUNED
                    reason = f"{self._pruner_name()} at epoch {metrics['epoch']}"
                    break
        except DivergedError as error:
            state, reason = TrialState.PRUNED, f"{DIVERGED}: {error}"
        except (*DATABASE_FAILURES, StudyLockLostError):
            raise  # not the trial's fault: it stays as it is, and the next search goes on with it
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this trial alone
            state, reason = TrialState.FAIL, failure_reason(error)
        if reason is not None:
            trial.set_user_attr(REASON_ATTR, reason)
        val_ap = history[-1]["val_ap"] if history else None
        self.study.tell(trial, val_ap if state == TrialState.COMPLETE else None, state=state)
        for checkpoint in self.checkpoints.glob(f"{trial_id}-*"):
            checkpoint.unlink(missing_ok=True)
        seconds = sum(metrics["train_s"] + metrics["val_s"] for metrics in history)
        return TrialEnd(trial.number, state, val_ap, len(history), seconds, reason)

    def remove_old_checkpoints(self, running: Collection[int]) -> None:
        """Removes what trials left behind that nobody goes on with.

        Args:
            running: database ids of the trials that will go on.
        """
        for checkpoint in self.checkpoints.glob("*"):
            if checkpoint.name.partition("-")[0] not in {str(trial_id) for trial_id in running}:
                checkpoint.unlink(missing_ok=True)

    def _epochs(
        self, settings: TrainingSettings, trial_id: int, known: list[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yields the metrics of every epoch: the known ones, then those that are trained now."""
        yield from known[: settings.epochs]
        if len(known) >= settings.epochs:
            return
        run = TrainingRun(settings, self.dataset)
        # The last key covers all learning rates, and so tells this run from every other.
        key = stage_keys(run.settings, self.dataset)[-1]
        checkpoint = self.checkpoints / f"{trial_id}-{key[:32]}.pt"
        _restore(run, checkpoint, at_most=len(known))
        while not run.is_finished:
            metrics = run.train_epoch(self.watcher.batch_done).as_dict()
            self.lock.check()
            self.store.add_epoch(trial_id, run.epoch, metrics)
            self._save(run, checkpoint)
            if run.epoch > len(known):
                yield metrics

    def _is_hopeless(
        self,
        trial: optuna.trial.Trial,
        metrics: dict[str, Any],
        epochs: int,
        reported: Collection[int],
    ) -> bool:
        """Reports one epoch to Optuna, unless it is, and asks the pruner."""
        epoch, val_ap = metrics["epoch"], metrics["val_ap"]
        rival = best_at_epoch(self.study, epoch, besides=trial.number)
        self.watcher.epoch_done(epoch, epochs, val_ap, rival)
        if epoch not in reported:
            trial.report(val_ap, epoch)
        # After the last epoch there is nothing left to save.
        return epoch < epochs and trial.should_prune()

    def _save(self, run: TrainingRun, checkpoint: Path) -> None:
        if run.is_finished:
            return
        try:
            write_checkpoint(checkpoint, run.state())
        except OSError as error:
            self.watcher.note(
                f"no checkpoint of epoch {run.epoch}: {error.strerror}; the trial goes on without"
            )

    def _pruner_name(self) -> str:
        return type(self.study.pruner).__name__


def failure_reason(error: Exception) -> str:
    """Returns why a trial failed, on one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def best_at_epoch(study: optuna.Study, epoch: int, besides: int) -> float | None:
    """Returns the best AP that any other trial reported at `epoch`."""
    values = [
        trial.intermediate_values[epoch]
        for trial in study.get_trials(deepcopy=False)
        if trial.number != besides and epoch in trial.intermediate_values
    ]
    return max(values, default=None)


def _restore(run: TrainingRun, checkpoint: Path, at_most: int) -> None:
    """Puts `run` where the checkpoint is, if there is one that its recorded epochs lead up to."""
    if not checkpoint.exists():
        return
    try:
        state = read_checkpoint(checkpoint)
    except CheckpointError:
        return  # damaged by a crash: the epochs are trained again
    if state["epoch"] <= at_most:
        run.restore(state)
