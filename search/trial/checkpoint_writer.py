"""Checkpoints of a running search: written beside the training, read back when they are needed."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from canopy_search.storage.connection.retry import is_unavailability, pause_s
from canopy_search.storage.connection.urls import DATABASE_FAILURES, failure_text
from canopy_search.storage.errors import CheckpointBudgetError, CheckpointMissError
from canopy_search.storage.stages.checkpoints import CheckpointStore
from canopy_search.training.checkpoint import RunState, snapshot, state_from_bytes, state_to_bytes
from canopy_search.training.errors import CheckpointError

# With two states waiting, a third would cost more memory than the time it saves.
_QUEUED_STATES = 2
# A place that takes longer than this for one checkpoint hangs; training goes on without.
_PATIENCE_S = 20.0
_POLL_S = 0.05
# A connection that breaks is mended by then; while the database stays away, training goes on.
_ATTEMPTS = 4


@dataclass(frozen=True)
class _Job:
    key: str
    epoch: int
    state: RunState
    is_end: bool


class CheckpointWriter:
    """Writes checkpoints on a thread of its own, and tells of each kind of trouble once.

    Args:
        store: where they go.
        note: is told what a person should know, on the thread that trains.
        retry_for_s: how long to wait for a place that hangs, in seconds.

    Attributes:
        waited_s: time that the training thread has waited here, in seconds.
    """

    def __init__(
        self,
        store: CheckpointStore,
        note: Callable[[str], None],
        *,
        retry_for_s: float = _PATIENCE_S,
    ) -> None:
        self._store = store
        self._note = note
        self._retry_for_s = retry_for_s
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_QUEUED_STATES)
        self._unwritten: set[str] = set()
        self._changed = threading.Condition()
        self._troubles: list[str] = []
        self._told: set[str] = set()
        self._hangs = False
        self._is_collected = threading.Event()
        self.waited_s = 0.0
        self._thread = threading.Thread(target=self._work, name="canopy checkpoints", daemon=True)
        self._thread.start()

    def submit(self, key: str, state: RunState, *, is_end: bool) -> None:
        """Takes the state of a run after a stage, which is written soon.

        Args:
            key: of the stage.
            state: of the run; copied, so the run may go on.
            is_end: whether the run ends here.
        """
        started = time.perf_counter()
        job = _Job(key, state["epoch"], snapshot(state), is_end)
        with self._changed:
            self._unwritten.add(key)
        try:
            # A place that hangs is waited for once.
            self._jobs.put(job, timeout=0 if self._hangs else self._retry_for_s)
        except queue.Full:
            self._hangs = True
            with suppress(*DATABASE_FAILURES):
                self._store.give_up(key)
            self._done(key, _useless(TimeoutError("they take too long to write")))
        self.waited_s += time.perf_counter() - started
        self._tell()

    def place_id(self) -> str | None:
        """Returns the id of the place that checkpoints go to; None if it cannot be had."""
        try:
            return self._store.place_id
        except (OSError, *DATABASE_FAILURES) as error:
            self._trouble(_useless(error))
            return None

    def find(self, keys: Sequence[str]) -> set[str]:
        """Returns the stages that have a checkpoint, or will have one in a moment."""
        self._is_collected.wait(self._retry_for_s)
        try:
            found = set(self._store.find(keys))
        except OSError as error:
            self._trouble(_useless(error))
            found = set()
        self._tell()
        return found

    def load(self, key: str, epoch: int) -> RunState | None:
        """Returns the state after a stage; None if its checkpoint cannot be had.

        One that is still being written is waited for.

        Args:
            key: of the stage.
            epoch: of the stage, for messages.
        """
        started = time.perf_counter()
        try:
            if not self._is_written(key):
                return None
            return state_from_bytes(self._store.read(key))
        except CheckpointMissError as error:
            self._trouble(f"the checkpoint of epoch {epoch} cannot be used: {error}")
        except CheckpointError as error:
            self._trouble(f"the checkpoint of epoch {epoch} cannot be used: {error}")
        except OSError as error:
            self._trouble(_useless(error))
        finally:
            self.waited_s += time.perf_counter() - started
            self._tell()
        return None

    def flush(self) -> None:
        """Waits until everything is written, as long as there is patience."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unwritten, self._retry_for_s)
        self._tell()

    def discard(self, keys: Sequence[str]) -> None:
        """Removes checkpoints that nobody will need."""
        self.flush()
        try:
            self._store.discard(keys)
        except OSError as error:
            self._trouble(_useless(error))
        self._tell()

    def close(self) -> None:
        """Writes what is left, and ends."""
        self.flush()
        if not self._unwritten:
            self._jobs.put(None)
            self._thread.join(self._retry_for_s)

    def _is_written(self, key: str) -> bool:
        """Waits for a checkpoint that this process or another is writing."""
        deadline = time.monotonic() + self._retry_for_s
        with self._changed:
            is_free = self._changed.wait_for(lambda: key not in self._unwritten, self._retry_for_s)
        if is_free:
            self._store.give_up(key)  # announced, and then the database was away
        while (is_whole := self._store.find([key]).get(key)) is False:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return bool(is_whole)

    def _collect(self) -> None:
        """Removes what crashes left behind, before anybody looks for a checkpoint."""
        try:
            if lost := self._store.collect().lost:
                gone = "a checkpoint is" if lost == 1 else f"{lost} checkpoints are"
                self._trouble(f"{gone} gone or not whole; where needed, epochs are trained again")
        except Exception as error:  # noqa: BLE001 - as below
            self._trouble(_useless(error))
        finally:
            self._is_collected.set()

    def _work(self) -> None:
        self._collect()
        while (job := self._jobs.get()) is not None:
            trouble = None
            self._hangs = False
            try:
                self._write(job)
            except CheckpointBudgetError as error:
                # At the end of a run nobody is likely to go on, so nobody needs to know.
                trouble = None if job.is_end else f"a checkpoint is not kept: {error}"
            except DATABASE_FAILURES as error:
                trouble = _useless(error)
            except Exception as error:  # noqa: BLE001 - no checkpoint is worth a trial
                trouble = _useless(error)
            finally:
                self._done(job.key, trouble)

    def _write(self, job: _Job) -> None:
        content = state_to_bytes(job.state)
        for attempt in range(_ATTEMPTS):
            try:
                self._store.write(job.key, content, is_end=job.is_end)
            except DATABASE_FAILURES as error:
                if attempt == _ATTEMPTS - 1 or not is_unavailability(error):
                    raise
                time.sleep(pause_s(attempt))
            else:
                return

    def _done(self, key: str, trouble: str | None) -> None:
        if trouble is not None:
            self._trouble(trouble)
        with self._changed:
            self._unwritten.discard(key)
            self._changed.notify_all()

    def _trouble(self, text: str) -> None:
        with self._changed:
            if text not in self._told:
                self._told.add(text)
                self._troubles.append(text)

    def _tell(self) -> None:
        """Hands on what happened meanwhile, on the thread that trains."""
        with self._changed:
            troubles, self._troubles = self._troubles, []
        for text in troubles:
            self._note(text)


def _useless(error: Exception) -> str:
    """Says that checkpoints cannot be written or read, in the same words wherever that shows."""
    if isinstance(error, DATABASE_FAILURES):
        reason = f"the database is away: {failure_text(error)}"
    elif isinstance(error, OSError):
        reason = error.strerror or str(error)
    else:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"checkpoints cannot be used now: {reason}; the search goes on without"
