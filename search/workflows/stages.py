"""What ``canopy stages`` lists and collects."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canopy_search.search.config.settings import StagesSettings
from canopy_search.search.study.checkpoint_place import open_checkpoints
from canopy_search.storage.database import open_database, open_existing_database
from canopy_search.storage.stages.checkpoints import GIB, Collected
from canopy_search.storage.stages.eviction_order import Checkpoint
from canopy_search.storage.stages.stages import StageStore

# No session has this number; listing and collecting write no checkpoint.
_NO_SESSION = 0


@dataclass(frozen=True)
class StageListing:
    """The stage tree of a database.

    Attributes:
        known: number of stored stages.
        place: where checkpoints are stored, as text.
        budget_bytes: disk budget for checkpoints.
        checkpoints: in order of eviction, the first to be evicted first.
    """

    known: int
    place: str
    budget_bytes: int
    checkpoints: list[Checkpoint]

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {
            "known": self.known,
            "place": self.place,
            "budget_bytes": self.budget_bytes,
            "held_bytes": sum(entry.size for entry in self.checkpoints),
            "checkpoints": [
                {
                    "stage": entry.key,
                    "epoch": entry.epoch,
                    "size": entry.size,
                    "worth": entry.priority.json_name,
                    "used": entry.used.isoformat(),
                    "whole": entry.is_whole,
                }
                for entry in self.checkpoints
            ],
        }


def list_stages(settings: StagesSettings, home: Path, url: str | None) -> StageListing:
    """Lists the stored stages and checkpoints.

    Args:
        settings: stage settings of the configuration.
        home: the state folder.
        url: URL of the database; None for the embedded one.

    Raises:
        NoDatabaseError: there is no database yet.
        OSError: the checkpoint storage is unreachable.
    """
    with (
        closing(open_existing_database(home, url)) as database,
        closing(open_checkpoints(settings, home, database, _NO_SESSION)) as checkpoints,
    ):
        return StageListing(
            StageStore(database, None).count(),
            checkpoints.place,
            checkpoints.budget_bytes,
            checkpoints.entries(),
        )


def collect_stages(
    settings: StagesSettings,
    home: Path,
    url: str | None,
    budget_gib: float | None,
    *,
    dry_run: bool,
) -> Collected:
    """Removes what crashes left behind and what exceeds the budget.

    Args:
        settings: stage settings of the configuration.
        home: the state folder.
        url: URL of the database; None for the embedded one.
        budget_gib: budget in place of the configured one, in GiB; None for the configured one.
        dry_run: only count.

    Raises:
        NoDatabaseError: there is no database yet.
        OSError: the checkpoint storage is unreachable.
    """
    open_existing_database(home, url).close()
    with (
        closing(open_database(home, url)) as database,
        closing(open_checkpoints(settings, home, database, _NO_SESSION)) as checkpoints,
    ):
        budget = None if budget_gib is None else int(budget_gib * GIB)
        return checkpoints.collect(budget, dry_run=dry_run)
