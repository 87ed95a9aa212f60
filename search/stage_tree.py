"""The stage tree at work: a run replays what is known and trains only what nobody has trained."""

import hashlib
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from search.checkpoint_writer import CheckpointWriter
from search.errors import StageBusyError
from storage.connecting import DATABASE_FAILURES
from storage.epochs import replaying
from storage.outages import Patience, is_outage
from storage.stages import Stage, StageStore, Write
from training.checkpoint import RunState
from training.data.dataset import Dataset
from training.errors import DivergedError
from training.resolve import resolve_settings
from training.run import BatchProgress, TrainingRun
from training.settings import TrainingSettings
from training.stage_key import stage_keys

_POLL_S = 0.2


@dataclass(frozen=True)
class WalkedEpoch:
    """One epoch that a walk has come to.

    Attributes:
        key: its stage key.
        metrics: JSON values by name.
        is_new: whether it was trained for this walk.
    """

    key: str
    metrics: dict[str, Any]
    is_new: bool


@dataclass
class Walk:
    """One run's way from the root of the tree to its last epoch.

    Attributes:
        settings: of the run, every ``auto`` resolved.
        keys: of its epochs.
        known: the stages from the first on that were known when the walk began.
        trial_id: the database's id of the trial that walks, if one does.
        resumed: epochs that a checkpoint saved from being trained again.
        trained: epochs that were trained, repeated ones included.
        trained_s: their training and validation time, in seconds.
        waited_s: time spent on waiting for other workers, in seconds.
        owed: what is to be written of it, in order; whoever walks takes it after every epoch.
    """

    settings: TrainingSettings
    keys: list[str]
    known: list[Stage]
    trial_id: int | None
    resumed: int = 0
    trained: int = 0
    trained_s: float = 0.0
    waited_s: float = 0.0
    owed: list[Write] = field(default_factory=list)

    def take_owed(self) -> list[Write]:
        """Returns what is to be written now, and leaves nothing."""
        owed, self.owed = self.owed, []
        return owed


@dataclass
class _Position:
    """The run that is in memory, and the key of the stage that it is at."""

    run: TrainingRun
    key: str
    is_kept: bool = False


class StageTree:
    """The runs of one worker on one data set, as branches of one tree.

    Args:
        stages: what is known, and who trains what.
        checkpoints: states to go on from.
        dataset: the images and labels.
        patience: how long to wait for a database that is away.
        note: is told what a person should know.
        alive: is called again and again while this waits for somebody else.
    """

    def __init__(
        self,
        stages: StageStore,
        checkpoints: CheckpointWriter,
        dataset: Dataset,
        *,
        patience: Patience,
        note: Callable[[str], None],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._stages = stages
        self._checkpoints = checkpoints
        self._dataset = dataset
        self._patience = patience
        self._note = note
        self._alive = alive
        self._position: _Position | None = None

    def plan(
        self, settings: TrainingSettings, trial_id: int | None = None, *, alone: bool = False
    ) -> Walk:
        """Looks up what is known of a run.

        Args:
            settings: of the run.
            trial_id: the database's id of the trial that it is for, if it is for one.
            alone: whether the trial shares nothing with others; it then has a tree of its own.
        """
        settings = resolve_settings(settings)
        keys = stage_keys(settings, self._dataset)
        if alone:
            keys = [hashlib.sha256(f"{trial_id} {key}".encode()).hexdigest() for key in keys]
        found = self._patience.call(lambda: self._stages.known(keys))
        known = []
        for key in keys:
            if key not in found:
                break
            known.append(found[key])
        return Walk(settings, keys, known, trial_id)

    def epochs(
        self, walk: Walk, on_batch: BatchProgress | None = None, *, wait: bool = True
    ) -> Generator[WalkedEpoch]:
        """Yields every epoch of a run, the known ones at once.

        A stage that another worker trains is waited for; when that worker dies, it is trained here.
        What is to be written of an epoch is owed when it is yielded, and its checkpoint follows
        when the walk goes on. To end early, close the iterator: leases are given back then.

        Args:
            walk: as `plan` returned it.
            on_batch: called with (epoch, batches done, batches of the epoch).
            wait: whether to wait for other workers.

        Raises:
            DivergedError: the run diverges in the next epoch, now or when it was trained first.
            StageBusyError: another worker trains the next epoch, and `wait` is false.
        """
        try:
            for index, key in enumerate(walk.keys):
                stage = walk.known[index] if index < len(walk.known) else None
                is_new = False
                if stage is None and (stage := self._obtain(walk, key, wait=wait)) is None:
                    stage = self._train(walk, index + 1, on_batch)
                    is_new = True
                if stage.metrics is None or stage.metrics.get("val_ap") is None:
                    raise DivergedError(stage.diverged or f"no AP is known after epoch {index + 1}")
                if not is_new and walk.trial_id is not None:
                    walk.owed.append(replaying(walk.trial_id, index + 1, stage.metrics, key))
                try:
                    yield WalkedEpoch(key, stage.metrics, is_new)
                finally:
                    self._keep_checkpoint()
        finally:
            # What is lost with the database is free already, or soon.
            with suppress(*DATABASE_FAILURES):
                self._stages.release_all()

    def write(self, walk: Walk) -> None:
        """Writes what is owed of a walk that is no trial's."""
        owed = walk.take_owed()
        self._patience.call(lambda: self._stages.write(owed))

    def forget(self, walk: Walk) -> None:
        """Removes a tree that only one trial had, when that has ended."""
        self._checkpoints.discard(walk.keys)
        self._stages.forget(walk.keys)

    def _obtain(self, walk: Walk, key: str, *, wait: bool) -> Stage | None:
        """Returns a stage that somebody trained meanwhile, or None with its lease for this worker.

        Raises:
            StageBusyError: another worker has it, and `wait` is false.
        """
        started = time.monotonic()
        try:
            return self._wait_for(key, wait=wait)
        except DATABASE_FAILURES as error:
            if not is_outage(error):
                raise
            return None  # to train what somebody else trains, too, costs time and no result
        finally:
            walk.waited_s += time.monotonic() - started

    def _wait_for(self, key: str, *, wait: bool) -> Stage | None:
        is_told = False
        while not self._stages.acquire(key):
            if stage := self._stages.known([key]).get(key):
                return stage
            if not wait:
                raise StageBusyError("another worker trains the next epoch")
            if not is_told:
                self._note("waiting for an epoch that another worker trains")
                is_told = True
            self._alive()
            time.sleep(_POLL_S)
        # Its holder may have recorded it and given it back just before.
        if stage := self._stages.known([key]).get(key):
            self._stages.release(key)
        return stage

    def _train(self, walk: Walk, epoch: int, on_batch: BatchProgress | None) -> Stage:
        """Trains up to and including `epoch`, from the nearest state before it."""
        run = self._run_before(walk, epoch)
        while True:
            try:
                metrics, diverged = run.train_epoch(on_batch).as_dict(), None
            except DivergedError as error:
                metrics, diverged = None, str(error)
            key = walk.keys[run.epoch - 1]
            stage = Stage(key, run.epoch, metrics, diverged)
            is_last = run.epoch == epoch
            follows = is_last and not run.is_finished and metrics is not None
            write = self._stages.recording(
                stage,
                walk.keys[run.epoch - 2] if run.epoch > 1 else None,
                next_key=walk.keys[run.epoch] if follows else None,
                trial_id=walk.trial_id,
                place=self._checkpoints.place_id(),
            )
            walk.owed.append(write)
            if metrics is None:
                return stage
            walk.trained += 1
            walk.trained_s += metrics["train_s"] + metrics["val_s"]
            self._position = _Position(run, key)
            if is_last:
                return stage
            self._keep_checkpoint()

    def _keep_checkpoint(self) -> None:
        """Hands the state that was come to last to the writer, once."""
        position = self._position
        if position is not None and not position.is_kept:
            position.is_kept = True
            run = position.run
            self._checkpoints.submit(position.key, run.state(), is_end=run.is_finished)

    def drop(self) -> None:
        """Frees the memory of the run that was walked last."""
        self._position = None

    def _run_before(self, walk: Walk, epoch: int) -> TrainingRun:
        """Returns the run at the deepest state before `epoch` that can be had."""
        position, self._position = self._position, None
        before = walk.keys[: epoch - 1]
        run, at = None, 0
        if position and position.run.settings == walk.settings and position.key in before:
            run, at = position.run, before.index(position.key) + 1
        del position  # before another network needs the memory
        found = self._found(before[at:])
        for index in range(len(before) - 1, at - 1, -1):
            if before[index] not in found:
                continue
            state = self._loaded(before[index], index + 1)
            if state is not None:
                run = run or TrainingRun(walk.settings, self._dataset)
                run.restore(state)
                walk.resumed = max(walk.resumed, index + 1)
                break
        return run or TrainingRun(walk.settings, self._dataset)

    def _found(self, keys: list[str]) -> set[str]:
        """Returns those of some stages that have a checkpoint."""
        return self._patience.call(lambda: self._checkpoints.find(keys)) if keys else set()

    def _loaded(self, key: str, epoch: int) -> RunState | None:
        return self._patience.call(lambda: self._checkpoints.load(key, epoch))
