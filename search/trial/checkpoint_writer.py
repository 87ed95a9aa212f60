"""Checkpoints of a running search: written by a thread during training, read when needed."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from canopy_search.filestore.messages import first_line
from canopy_search.filestore.retry import Retrier, RetryPolicy, Service
from canopy_search.storage.connection.retry import is_unavailability
from canopy_search.storage.connection.urls import DATABASE_FAILURES, failure_text
from canopy_search.storage.errors import CheckpointBudgetError, CheckpointMissError
from canopy_search.storage.stages.checkpoints import CheckpointStore
from canopy_search.training.checkpoint import RunState, snapshot, state_from_bytes, state_to_bytes
from canopy_search.training.errors import CheckpointError

# A third waiting state would cost more memory than the time that it saves.
_QUEUED_STATES = 2
# A filestore that takes longer than this for one checkpoint hangs; training continues without it.
_RETRY_FOR_S = 20.0
_POLL_S = 0.05
# Enough for a broken connection; if the database stays unavailable, training continues.
_RETRY_POLICY = RetryPolicy(limit_s=1.0)


@dataclass(frozen=True)
class _Job:
    key: str
    epoch: int
    state: RunState
    is_end: bool


class CheckpointWriter:
    """Writes checkpoints on its own thread, and reports each kind of problem once.

    Args:
        store: where they go.
        note: gets messages for the user, on the training thread.
        retry_for_s: how long to wait for a filestore that hangs, in seconds.

    Attributes:
        waited_s: time that the training thread has waited for checkpoints, in seconds.
    """

    def __init__(
        self,
        store: CheckpointStore,
        note: Callable[[str], None],
        *,
        retry_for_s: float = _RETRY_FOR_S,
    ) -> None:
        self._store = store
        self._note = note
        self._retry_for_s = retry_for_s
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_QUEUED_STATES)
        self._unwritten: set[str] = set()
        self._changed = threading.Condition()
        self._problems: list[str] = []
        self._reported: set[str] = set()
        self._hangs = False
        self._is_collected = threading.Event()
        self._retrier = Retrier(_RETRY_POLICY, Service("the database", is_unavailability))
        self.waited_s = 0.0
        self._thread = threading.Thread(target=self._work, name="canopy checkpoints", daemon=True)
        self._thread.start()

    def submit(self, key: str, state: RunState, *, is_end: bool) -> None:
        """Queues the state of a run after a stage to be written.

        Args:
            key: of the stage.
            state: of the run; copied, so the run may continue.
            is_end: whether the run ends with this stage.
        """
        started = time.perf_counter()
        job = _Job(key, state["epoch"], snapshot(state), is_end)
        with self._changed:
            self._unwritten.add(key)
        try:
            # Wait only once for a filestore that hangs.
            self._jobs.put(job, timeout=0 if self._hangs else self._retry_for_s)
        except queue.Full:
            self._hangs = True
            with suppress(*DATABASE_FAILURES):
                self._store.give_up(key)
            self._done(key, _unusable_text(TimeoutError("they take too long to write")))
        self.waited_s += time.perf_counter() - started
        self._report_problems()

    def place_id(self) -> str | None:
        """Returns the id of the filestore of the checkpoints; None if it is unavailable."""
        try:
            return self._store.place_id
        except (OSError, *DATABASE_FAILURES) as error:
            self._add_problem(_unusable_text(error))
            return None

    def find(self, keys: Sequence[str]) -> set[str]:
        """Returns the stages whose checkpoint is written or being written."""
        self._is_collected.wait(self._retry_for_s)
        try:
            found = set(self._store.find(keys))
        except OSError as error:
            self._add_problem(_unusable_text(error))
            found = set()
        self._report_problems()
        return found

    def load(self, key: str, epoch: int) -> RunState | None:
        """Returns the state after a stage; None if its checkpoint cannot be read.

        Waits for a checkpoint that is still being written.

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
            self._add_problem(f"the checkpoint of epoch {epoch} cannot be used: {error}")
        except CheckpointError as error:
            self._add_problem(f"the checkpoint of epoch {epoch} cannot be used: {error}")
        except OSError as error:
            self._add_problem(_unusable_text(error))
        finally:
            self.waited_s += time.perf_counter() - started
            self._report_problems()
        return None

    def flush(self) -> None:
        """Waits until everything is written, for at most `retry_for_s`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unwritten, self._retry_for_s)
        self._report_problems()

    def discard(self, keys: Sequence[str]) -> None:
        """Removes checkpoints that are no longer needed."""
        self.flush()
        try:
            self._store.discard(keys)
        except OSError as error:
            self._add_problem(_unusable_text(error))
        self._report_problems()

    def close(self) -> None:
        """Writes what is left, and ends the thread."""
        self.flush()
        if not self._unwritten:
            self._jobs.put(None)
            self._thread.join(self._retry_for_s)

    def _is_written(self, key: str) -> bool:
        """Waits for a checkpoint that this or another process is writing."""
        deadline = time.monotonic() + self._retry_for_s
        with self._changed:
            is_free = self._changed.wait_for(lambda: key not in self._unwritten, self._retry_for_s)
        if is_free:
            self._store.give_up(key)  # announced before the database became unavailable
        while (is_whole := self._store.find([key]).get(key)) is False:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return bool(is_whole)

    def _collect(self) -> None:
        """Removes what crashes left behind, before any checkpoint is read."""
        try:
            if lost := self._store.collect().lost:
                which = "a checkpoint is" if lost == 1 else f"{lost} checkpoints are"
                self._add_problem(
                    f"{which} missing or incomplete; epochs are trained again where needed"
                )
        except Exception as error:  # noqa: BLE001 - as below
            self._add_problem(_unusable_text(error))
        finally:
            self._is_collected.set()

    def _work(self) -> None:
        self._collect()
        while (job := self._jobs.get()) is not None:
            problem = None
            self._hangs = False
            try:
                self._write(job)
            except CheckpointBudgetError as error:
                # A finished run is unlikely to be continued, so the user needs no message.
                problem = None if job.is_end else f"a checkpoint is not kept: {error}"
            except DATABASE_FAILURES as error:
                problem = _unusable_text(error)
            except Exception as error:  # noqa: BLE001 - no checkpoint is worth a trial
                problem = _unusable_text(error)
            finally:
                self._done(job.key, problem)

    def _write(self, job: _Job) -> None:
        content = state_to_bytes(job.state)
        self._retrier.call(lambda: self._store.write(job.key, content, is_end=job.is_end))

    def _done(self, key: str, problem: str | None) -> None:
        if problem is not None:
            self._add_problem(problem)
        with self._changed:
            self._unwritten.discard(key)
            self._changed.notify_all()

    def _add_problem(self, text: str) -> None:
        with self._changed:
            if text not in self._reported:
                self._reported.add(text)
                self._problems.append(text)

    def _report_problems(self) -> None:
        """Reports new problems, on the training thread."""
        with self._changed:
            problems, self._problems = self._problems, []
        for text in problems:
            self._note(text)


def _unusable_text(error: Exception) -> str:
    """Returns the message that checkpoints cannot be written or read."""
    if isinstance(error, DATABASE_FAILURES):
        reason = f"the database is unavailable: {failure_text(error)}"
    elif isinstance(error, OSError):
        reason = error.strerror or str(error)
    else:
        reason = first_line(f"{type(error).__name__}: {error}")
    return f"checkpoints cannot be used now: {reason}; the search continues without them"
