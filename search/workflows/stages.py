"""What ``canopy stages`` lists and collects."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canopy_search.search.config.settings import StagesSettings
from canopy_search.search.study.checkpoint_place import open_checkpoints
from canopy_search.storage.database import open_database, open_existing_database
from canopy_search.storage.stages.checkpoints import GIB, Collected
from canopy_search.storage.stages.eviction import Checkpoint
from canopy_search.storage.stages.stages import StageStore

# A number that no session has: who lists and collects writes no checkpoint.
_NOBODY = 0


@dataclass(frozen=True)
class StageListing:
    """The stage tree of a database.

    Attributes:
        known: how many epochs are.
        place: where checkpoints lie, in words.
        budget_bytes: what they may take.
        checkpoints: the one that goes first first.
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
                    "worth": entry.priority.name.lower(),
                    "used": entry.used.isoformat(),
                    "whole": entry.is_whole,
                }
                for entry in self.checkpoints
            ],
        }


def list_stages(settings: StagesSettings, home: Path, url: str | None) -> StageListing:
    """Reads what is known and kept.

    Args:
        settings: of the configuration.
        home: the state folder.
        url: of the database; None for the embedded one.

    Raises:
        NoDatabaseError: nothing was ever stored.
        OSError: the place of the checkpoints cannot be reached.
    """
    with (
        closing(open_existing_database(home, url)) as database,
        closing(open_checkpoints(settings, home, database, _NOBODY)) as checkpoints,
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
        settings: of the configuration.
        home: the state folder.
        url: of the database; None for the embedded one.
        budget_gib: another budget than that of the configuration.
        dry_run: only count.

    Raises:
        NoDatabaseError: nothing was ever stored.
        OSError: the place of the checkpoints cannot be reached.
    """
    open_existing_database(home, url).close()
    with (
        closing(open_database(home, url)) as database,
        closing(open_checkpoints(settings, home, database, _NOBODY)) as checkpoints,
    ):
        budget = None if budget_gib is None else int(budget_gib * GIB)
        return checkpoints.collect(budget, dry_run=dry_run)
