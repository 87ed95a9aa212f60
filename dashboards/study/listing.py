"""All studies of a database in a line each: state, trials, best score, time and size."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.study.reader import StudyReader
from canopy_search.storage.catalogue import StudyCatalogue, Usage
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.control import ARCHIVED, PAUSE, STOP_FINISHING, STOP_PRUNING

_MIB = 2**20


@dataclass(frozen=True)
class ListedStudy:
    """One study of a list.

    Attributes:
        usage: whose it is, and what it takes.
        data: its trials, without what Canopy recorded of each epoch.
    """

    usage: Usage
    data: StudyData

    @property
    def is_archived(self) -> bool:
        """Whether it is hidden, and not to be changed."""
        return self.usage.control == ARCHIVED

    @property
    def state(self) -> str:
        """One word: archived, searching, paused, stopped, finished or unfinished; or foreign."""
        if not self.data.is_ours:
            return "foreign"
        if self.is_archived:
            return "archived"
        if self.data.is_searched:
            return "searching"
        if self.usage.control == PAUSE:
            return "paused"
        if self.data.target is not None and self.data.finished >= self.data.target:
            return "finished"
        return "stopped" if self.usage.control in {STOP_FINISHING, STOP_PRUNING} else "unfinished"

    @property
    def best(self) -> float | None:
        """The score of the best complete trial."""
        best = self.data.best
        return None if best is None else best.score

    @property
    def workers(self) -> int:
        """Number of active workers."""
        return sum(worker.is_living for worker in self.data.workers)

    @property
    def changed(self) -> datetime | None:
        """When a trial or an epoch last ended, in local time."""
        ended = [trial.ended for trial in self.data.trials if trial.ended is not None]
        if self.usage.changed is not None:
            ended.append(self.usage.changed.astimezone().replace(tzinfo=None))
        return max(ended, default=None)

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy studies --json`` prints for it."""
        return {
            "name": self.data.name,
            "state": self.state,
            "owner": self.usage.owner,
            "trials": self.data.finished,
            "best": self.best,
            "workers": self.workers,
            "gpu_hours": self.usage.trained_s / 3600,
            "mib": self.usage.stored_bytes / _MIB,
            "changed": self.changed and self.changed.astimezone().isoformat(timespec="seconds"),
        }


def list_studies(database: Database) -> list[ListedStudy]:
    """Reads all studies, the one that changed last first.

    Args:
        database: an open one.
    """
    store = StudyStore(database)
    found = [
        ListedStudy(each, StudyReader(store, each.name).read(epochs=False))
        for each in StudyCatalogue(database).usage()
    ]
    store.close()
    return sorted(found, key=lambda each: each.changed or datetime.min, reverse=True)
