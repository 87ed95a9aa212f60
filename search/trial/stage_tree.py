"""Runs in the stage tree: a run replays recorded epochs and trains only the others."""

import hashlib
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from canopy_search.filestore.retry import Retrier
from canopy_search.search.errors import StageBusyError
from canopy_search.search.trial.checkpoint_writer import CheckpointWriter
from canopy_search.storage.connection.retry import is_unavailability
from canopy_search.storage.connection.urls import DATABASE_FAILURES
from canopy_search.storage.stages.stages import Stage, StageStore, Write
from canopy_search.storage.study.epochs import replaying
from canopy_search.storage.study.predictions import ValidationSet, predicting
from canopy_search.training.checkpoint import RunState
from canopy_search.training.data.dataset import Dataset, parts_digest
from canopy_search.training.errors import DivergedError, OutOfMemoryError
from canopy_search.training.liveness import silent_step
from canopy_search.training.optimization.accumulation import (
    Accumulation,
    cut_from,
    finer_steps,
    largest_batch,
    micro_batch_size,
    steps_at,
)
from canopy_search.training.resolve import ResolvedSettings, resolve_settings
from canopy_search.training.run import BatchProgress, TrainingRun
from canopy_search.training.settings import TrainingSettings
from canopy_search.training.stage_key import stage_keys

_POLL_S, _LONGEST_POLL_S = 0.2, 10.0


@dataclass(frozen=True)
class RunEpoch:
    """One epoch of a run path.

    Attributes:
        key: its stage key.
        metrics: JSON values by name.
        is_new: whether it was trained now, not replayed.
    """

    key: str
    metrics: dict[str, Any]
    is_new: bool


@dataclass
class RunPath:
    """One run's path from the root of the tree to its last epoch.

    Attributes:
        settings: of the run, every ``auto`` resolved.
        keys: stage keys of its epochs.
        known: the stages, from the first on, that were recorded when the run was planned.
        trial_id: the database's id of the trial, if the run belongs to one.
        is_alone: whether that trial shares no stages.
        accumulation: from which epochs on batches are split because memory ran out.
        resumed: epochs that a checkpoint saved from being trained again.
        trained: epochs that were trained, repeated ones included.
        trained_s: their training and validation time, in seconds.
        waited_s: time spent waiting for other workers, in seconds.
        pending_writes: writes for the database, in order; the caller takes them after every epoch.
    """

    settings: ResolvedSettings
    keys: list[str]
    known: list[Stage]
    trial_id: int | None
    is_alone: bool = False
    accumulation: tuple[Accumulation, ...] = ()
    resumed: int = 0
    trained: int = 0
    trained_s: float = 0.0
    waited_s: float = 0.0
    pending_writes: list[Write] = field(default_factory=list)

    def take_pending_writes(self) -> list[Write]:
        """Returns the pending writes and clears them."""
        writes, self.pending_writes = self.pending_writes, []
        return writes


@dataclass
class _Position:
    """The run in memory, and the key of its last stage."""

    run: TrainingRun
    key: str
    is_kept: bool = False


class StageTree:
    """The runs of one worker on one data set, as branches of one tree.

    Args:
        stages: the recorded stages and their leases.
        checkpoints: states to resume from.
        dataset: the images and labels.
        retrier: repeats calls while the database is unavailable; gets messages for the user, and
            hears that this process is alive while it waits for another worker.

    Attributes:
        dataset: the images and labels.
    """

    def __init__(
        self,
        stages: StageStore,
        checkpoints: CheckpointWriter,
        dataset: Dataset,
        retrier: Retrier,
    ) -> None:
        self._stages = stages
        self._checkpoints = checkpoints
        self.dataset = dataset
        self._validation = _validation_set(dataset)
        self._retrier = retrier
        self._position: _Position | None = None

    def plan(
        self,
        settings: TrainingSettings,
        trial_id: int | None = None,
        *,
        alone: bool = False,
        accumulation: Sequence[Accumulation] = (),
    ) -> RunPath:
        """Looks up the recorded stages of a run.

        Args:
            settings: of the run.
            trial_id: the database's id of the trial, if the run belongs to one.
            alone: whether the trial shares no stages with others; it then has its own tree.
            accumulation: from an earlier attempt of the same trial; by default that of `settings`.
        """
        resolved = resolve_settings(settings, len(self.dataset.split.train))
        cut = tuple(accumulation) or tuple(Accumulation(*each) for each in settings.accumulation)
        run_path = RunPath(resolved, [], [], trial_id, alone, cut)
        run_path.keys = self._keys(run_path)
        found = self._retrier.call(lambda: self._stages.known(run_path.keys))
        for key in run_path.keys:
            if key not in found:
                break
            run_path.known.append(found[key])
        return run_path

    def epochs(
        self,
        run_path: RunPath,
        on_batch: BatchProgress | None = None,
        *,
        wait: bool = True,
        on_cut: Callable[[str], None] | None = None,
    ) -> Generator[RunEpoch]:
        """Yields every epoch of a run, recorded ones immediately.

        If another worker trains a stage, this waits; if that worker dies, it is trained here.
        If memory runs out, batches are split from that epoch on: the run takes another branch. The
        writes of an epoch are pending when it is yielded, and its checkpoint is submitted when the
        iterator continues. To end early, close the iterator; this gives its leases back.

        Args:
            run_path: as `plan` returned it.
            on_batch: called with (epoch, batches done, batches of the epoch).
            wait: whether to wait for other workers.
            on_cut: called with a message when the run has taken another branch, before anything of
                it is recorded; `note` by default.

        Raises:
            DivergedError: the run diverges in the next epoch, now or when it was first trained.
            StageBusyError: another worker trains the next epoch, and `wait` is false.
            OutOfMemoryError: the next epoch does not fit into memory, even in micro-batches.
        """
        try:
            for epoch in range(1, len(run_path.keys) + 1):
                step = self._epoch(
                    run_path, epoch, on_batch, wait=wait, on_cut=on_cut or self._retrier.note
                )
                try:
                    yield step
                finally:
                    self._keep_checkpoint()
        finally:
            # Leases lost with the database are free already, or will be soon.
            with suppress(*DATABASE_FAILURES):
                self._stages.release()

    @property
    def has_test(self) -> bool:
        """Whether images are held out for test."""
        return len(self.dataset.split.test) > 0

    def test_scores(
        self, run_path: RunPath, on_batch: BatchProgress | None = None
    ) -> dict[str, Any]:
        """Scores the model of a fully trained run on test.

        Raises:
            DivergedError: a logit is not a number.
        """
        run = self.run_after(run_path, len(run_path.keys), on_batch)
        return run.evaluate(self.dataset.split.test).as_dict("test", run_path.settings.loss)

    def run_after(
        self, run_path: RunPath, epoch: int, on_batch: BatchProgress | None = None
    ) -> TrainingRun:
        """Returns the run after an epoch that `epochs` has yielded.

        It is in memory or comes from a checkpoint; if that is lost, it is trained again.

        Raises:
            DivergedError: it diverges when it is trained again.
        """
        run = self._run_before(run_path, epoch + 1)
        if run.epoch < epoch:
            if run.epoch:
                self._position = _Position(run, run_path.keys[run.epoch - 1], is_kept=True)
            if reason := self._train(run_path, epoch, on_batch).diverged:
                raise DivergedError(reason)
            self._keep_checkpoint()
            run = self._run_before(run_path, epoch + 1)
        run.accumulation = steps_at(run_path.accumulation, run.epoch)
        return run

    def write(self, run_path: RunPath) -> None:
        """Writes the pending writes of a run without a trial."""
        writes = run_path.take_pending_writes()
        self._retrier.call(lambda: self._stages.write(writes))

    def forget(self, run_path: RunPath) -> None:
        """Removes the stages of a trial that shares none, after it has ended."""
        self._retrier.call(lambda: self._forget(run_path.keys))

    def _forget(self, keys: Sequence[str]) -> None:
        with silent_step():
            self._checkpoints.discard(keys)
        self._stages.forget(keys)

    def _keys(self, run_path: RunPath) -> list[str]:
        keys = stage_keys(run_path.settings, self.dataset, run_path.accumulation)
        if run_path.is_alone:
            return [
                hashlib.sha256(f"{run_path.trial_id} {key}".encode()).hexdigest() for key in keys
            ]
        return keys

    def _epoch(
        self,
        run_path: RunPath,
        epoch: int,
        on_batch: BatchProgress | None,
        *,
        wait: bool,
        on_cut: Callable[[str], None],
    ) -> RunEpoch:
        """Returns a recorded epoch, or trains it with batches split as far as memory requires."""
        stage = run_path.known[epoch - 1] if epoch <= len(run_path.known) else None
        is_new = False
        while stage is None:
            key = run_path.keys[epoch - 1]
            if (stage := self._obtain(run_path, key, wait=wait)) is None:
                try:
                    stage, is_new = self._train(run_path, epoch, on_batch), True
                except OutOfMemoryError as error:
                    with suppress(*DATABASE_FAILURES):
                        self._stages.release(key)
                    if error.made_room:
                        self._retrier.note(
                            "out of memory; continues with the images in host memory"
                        )
                    elif not error.cut_helps:
                        raise
                    else:
                        on_cut(self._split(run_path, error))
                # Retry only here, where the error's traceback no longer holds the network.
        if stage.metrics is None or stage.metrics.get("val_ap") is None:
            raise DivergedError(stage.diverged or f"no AP is known after epoch {epoch}")
        key = run_path.keys[epoch - 1]
        if not is_new and run_path.trial_id is not None:
            run_path.pending_writes.append(replaying(run_path.trial_id, epoch, stage.metrics, key))
        return RunEpoch(key, stage.metrics, is_new)

    def _split(self, run_path: RunPath, shortage: OutOfMemoryError) -> str:
        """Moves a run to the branch with smaller micro-batches, and returns a message.

        Raises:
            OutOfMemoryError: the batches cannot be split any further.
        """
        images, batch_size = len(self.dataset.split.train), run_path.settings.batch_size
        steps = steps_at(run_path.accumulation, shortage.epoch)
        finer = finer_steps(largest_batch(images, batch_size), steps)
        if finer is None:
            raise OutOfMemoryError(
                shortage.facts,
                "batches cannot be split any further: choose a smaller data.image_px or remove "
                "this backbone",
                epoch=shortage.epoch,
            ) from None
        left = run_path.keys[shortage.epoch - 1 :]
        run_path.accumulation = cut_from(run_path.accumulation, shortage.epoch, finer)
        run_path.keys = self._keys(run_path)
        if run_path.is_alone:
            self._retrier.call(lambda: self._forget(left))
        whole = min(images, batch_size)
        before, after = _batch_text(whole, steps), _batch_text(whole, finer)
        return f"out of memory at batch {before}; continues with {after}"

    def _obtain(self, run_path: RunPath, key: str, *, wait: bool) -> Stage | None:
        """Returns a stage that another worker has trained, or None with its lease for this worker.

        Raises:
            StageBusyError: another worker trains it, and `wait` is false.
        """
        started = time.monotonic()
        try:
            return self._wait_for(key, wait=wait)
        except DATABASE_FAILURES as error:
            if not is_unavailability(error):
                raise
            return None  # training the same stage twice costs time but changes no result
        finally:
            run_path.waited_s += time.monotonic() - started

    def _wait_for(self, key: str, *, wait: bool) -> Stage | None:
        is_noted, started_s = False, time.monotonic()
        while not self._stages.acquire(key):
            if stage := self._stages.known([key]).get(key):
                return stage
            if not wait:
                raise StageBusyError("another worker trains the next epoch")
            if not is_noted:
                self._retrier.note("waiting for an epoch that another worker trains")
                is_noted = True
            self._retrier.alive()
            # The longer a worker has waited, the less often it polls.
            poll_s = min(
                self._stages.longest_pause_s, _LONGEST_POLL_S, 0.2 * (time.monotonic() - started_s)
            )
            time.sleep(max(_POLL_S, random.uniform(0.5, 1) * poll_s))
        # Its holder may have recorded it and released the lease just before.
        if stage := self._stages.known([key]).get(key):
            self._stages.release(key)
        return stage

    def _train(self, run_path: RunPath, epoch: int, on_batch: BatchProgress | None) -> Stage:
        """Trains up to and including `epoch`, from the nearest state before it.

        Raises:
            OutOfMemoryError: `epoch`, or an earlier one that is trained again, does not fit.
        """
        run = self._run_before(run_path, epoch)
        while True:
            run.accumulation = steps_at(run_path.accumulation, run.epoch + 1)
            metrics, logits, diverged = None, None, None
            try:
                trained = run.train_epoch(on_batch)
                metrics, logits = trained.as_dict(), trained.validation_logits
            except DivergedError as error:
                diverged = str(error)
            key = run_path.keys[run.epoch - 1]
            stage = Stage(key, run.epoch, metrics, diverged)
            is_last = run.epoch == epoch
            follows = is_last and not run.is_finished and metrics is not None
            write = self._stages.recording(
                stage,
                run_path.keys[run.epoch - 2] if run.epoch > 1 else None,
                next_key=run_path.keys[run.epoch] if follows else None,
                trial_id=run_path.trial_id,
                # An earlier epoch's checkpoint is submitted at once, so no worker must wait for it.
                place=self._checkpoints.place_id() if is_last else None,
            )
            run_path.pending_writes.append(write)
            if metrics is None or logits is None:
                return stage
            run_path.pending_writes.append(predicting(key, self._validation, logits))
            run_path.trained += 1
            run_path.trained_s += metrics["train_s"] + metrics["val_s"]
            self._position = _Position(run, key)
            if is_last:
                return stage
            self._keep_checkpoint()
            # After a failed epoch the run cannot be continued.
            self._position = None

    def _keep_checkpoint(self) -> None:
        """Submits the latest state to the writer, once."""
        position = self._position
        if position is not None and not position.is_kept:
            position.is_kept = True
            run = position.run
            with silent_step():
                self._checkpoints.submit(position.key, run.state(), is_end=run.is_finished)

    def drop(self) -> None:
        """Frees the memory of the last run."""
        self._position = None

    def _run_before(self, run_path: RunPath, epoch: int) -> TrainingRun:
        """Returns the run at the latest available state before `epoch`."""
        with silent_step():  # a download, the restoring of a checkpoint
            return self._restored_before(run_path, epoch)

    def _restored_before(self, run_path: RunPath, epoch: int) -> TrainingRun:
        position, self._position = self._position, None
        before = run_path.keys[: epoch - 1]
        run, at = None, 0
        if position and position.run.settings == run_path.settings and position.key in before:
            run, at = position.run, before.index(position.key) + 1
        del position  # before another network needs the memory
        found = self._found(before[at:])
        for index in range(len(before) - 1, at - 1, -1):
            if before[index] not in found:
                continue
            state = self._loaded(before[index], index + 1)
            if state is not None:
                run = run or TrainingRun(run_path.settings, self.dataset)
                run.restore(state)
                run_path.resumed = max(run_path.resumed, index + 1)
                break
        return run or TrainingRun(run_path.settings, self.dataset)

    def _found(self, keys: list[str]) -> set[str]:
        """Returns the stages that have a checkpoint."""
        return self._retrier.call(lambda: self._checkpoints.find(keys)) if keys else set()

    def _loaded(self, key: str, epoch: int) -> RunState | None:
        return self._retrier.call(lambda: self._checkpoints.load(key, epoch))


def _validation_set(dataset: Dataset) -> ValidationSet:
    rows = dataset.split.validation
    return ValidationSet(parts_digest(dataset, rows), dataset.labels, dataset.targets[rows])


def _batch_text(batch: int, steps: int) -> str:
    """Returns ``64`` for a whole batch, ``2 × 32`` for one in two micro-batches."""
    return f"{steps} × {micro_batch_size(batch, steps)}" if steps > 1 else str(batch)
