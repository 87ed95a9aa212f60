"""What ``canopy stages`` lists and collects."""

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from canopy_search.search.config.settings import StagesSettings
from canopy_search.search.study.checkpoint_place import NO_SESSION, open_checkpoints
from canopy_search.storage.stages.checkpoints import GIB, Collected
from canopy_search.storage.stages.eviction_order import Checkpoint
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.workspace import Workspace


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


def list_stages(workspace: Workspace, settings: StagesSettings) -> StageListing:
    """Lists the stored stages and checkpoints of a workspace.

    Args:
        workspace: the state folder and the database.
        settings: where its checkpoints are.

    Raises:
        NoDatabaseError: there is no database yet.
        OSError: the checkpoint storage is unreachable.
    """
    with (
        closing(workspace.open_existing()) as database,
        closing(open_checkpoints(settings, workspace.home, database, NO_SESSION)) as checkpoints,
    ):
        return StageListing(
            StageStore(database, None).count(),
            checkpoints.place,
            checkpoints.budget_bytes,
            checkpoints.entries(),
        )


def collect_stages(
    workspace: Workspace, settings: StagesSettings, budget_gib: float | None, *, dry_run: bool
) -> Collected:
    """Removes what crashes left behind and what exceeds the budget.

    Args:
        workspace: the state folder and the database.
        settings: where its checkpoints are, and their budget.
        budget_gib: budget in place of the configured one, in GiB; None for the configured one.
        dry_run: only count.

    Raises:
        NoDatabaseError: there is no database yet.
        OSError: the checkpoint storage is unreachable.
    """
    with (
        closing(workspace.open_existing(writes=True)) as database,
        closing(open_checkpoints(settings, workspace.home, database, NO_SESSION)) as checkpoints,
    ):
        budget = None if budget_gib is None else int(budget_gib * GIB)
        return checkpoints.collect(budget, dry_run=dry_run)
