"""`canopy worker` as a search runs it on another machine."""

import json
import os
import sys
from dataclasses import dataclass, replace

from canopy_search.search.errors import SearchError
from canopy_search.search.events import Emit, Ending, Note
from canopy_search.search.study.plan import plan_search
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.command import (
    DIED,
    DONE,
    FAILED,
    INTERRUPTED,
    PLACED_VARIABLE,
    SICK,
    UNFIT,
)
from canopy_search.search.workers.device_slots import device_slots
from canopy_search.search.workers.graceful_exit import leaving_in_time
from canopy_search.search.workers.process import ending_of, search_in_study
from canopy_search.storage.errors import StorageError
from canopy_search.training.device.precision import resolve_threads
from canopy_search.training.errors import TrainingError

_EXIT_STATUSES = {
    Ending.FAILED: FAILED,
    Ending.SICK: SICK,
    Ending.UNFIT: UNFIT,
    Ending.DIED: DIED,
}


@dataclass(frozen=True)
class Placed:
    """What a search says to a worker that it runs on another machine.

    Attributes:
        worker_id: id of the worker in the database.
        n_trials: requested number of trials.
        workers: number of workers that share its machine.
        threads: its threads if the configuration says ``auto``; None for its share.
        number: number of its slot; None if it has none.
    """

    worker_id: int
    n_trials: int
    workers: int = 1
    threads: int | None = None
    number: int | None = None

    def run(self, request: StudyRequest, emit: Emit) -> int:
        """Works on the study, and starts it if no other worker has.

        It leaves when its standard input ends, and so when the process that started it does.

        Args:
            request: the study, and the configuration that the search was started with.
            emit: receives the events.

        Returns:
            The exit status for the search; a reason is printed on standard error.
        """
        try:
            plan = plan_search(request, self.n_trials)
            [slot] = device_slots(plan.config.training.device, 1)
            threads = self.threads and min(self.threads, resolve_threads("auto"))
            plan = replace(
                plan,
                slot=slot.place(self.number),
                workers=self.workers,
                threads=threads,
                worker_id=self.worker_id,
            )
            with leaving_in_time(sys.stdin.fileno()):
                end = search_in_study(plan, emit, creates_study=True)
                emit(Note(f"study {plan.study}: {end.value}"))
        except KeyboardInterrupt:
            return INTERRUPTED
        except (SearchError, StorageError, TrainingError, OSError) as error:
            print(error, file=sys.stderr)  # noqa: T201 - for the search
            return _EXIT_STATUSES[ending_of(error)]
        return DONE


def placed_worker() -> Placed | None:
    """Returns what a search says to this process; None if a person started it."""
    text = os.environ.get(PLACED_VARIABLE)
    return None if text is None else Placed(**json.loads(text))
