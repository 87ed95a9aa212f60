"""The eviction priority of checkpoints: how likely each is needed again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import sqlalchemy

from canopy_search.storage.workers.registry import LIVING


class EvictionPriority(IntEnum):
    """How likely a checkpoint is needed again; the lowest is evicted first, RUNNING never."""

    SUPERSEDED = 0
    """The next epoch of the same run has one, and the run has no other continuation."""
    END = 1
    """The last epoch of a run: only a longer run would continue from it."""
    TIP = 2
    """Where a run was pruned or interrupted: a promotion or the same setting continues from it."""
    PAUSED = 3
    """The latest checkpoint of a trial that is paused, or waits for another worker."""
    SHARED_PREFIX = 4
    """Runs branch off here: after the first epoch, or where two runs already did."""
    RUNNING = 5
    """The latest checkpoint of a running trial, or one that a worker is writing."""

    @property
    def json_name(self) -> str:
        """The word that ``canopy stages ls --json`` prints; it stays the same across versions."""
        return "trunk" if self is EvictionPriority.SHARED_PREFIX else self.name.lower()

    @property
    def meaning(self) -> str:
        """A description for the user."""
        return _MEANINGS[self]


_MEANINGS = {
    EvictionPriority.SUPERSEDED: "superseded by the next epoch of the same run",
    EvictionPriority.END: "after the last epoch of a run",
    EvictionPriority.TIP: "where a run was pruned or stopped",
    EvictionPriority.PAUSED: "of paused or interrupted trials",
    EvictionPriority.SHARED_PREFIX: "where runs branch off",
    EvictionPriority.RUNNING: "of running trials",
}


@dataclass(frozen=True)
class Checkpoint:
    """One recorded checkpoint.

    Attributes:
        key: its stage key.
        epoch: of the stage, counting from 1; None if the stage was removed.
        size: in bytes.
        priority: how likely it is needed again.
        used: when it was last written or read.
        is_whole: whether it was written completely.
    """

    key: str
    epoch: int | None
    size: int
    priority: EvictionPriority
    used: datetime
    is_whole: bool


_ENTRIES = sqlalchemy.text(f"""
    WITH mine AS (SELECT * FROM canopy_checkpoint WHERE place = :place),
    children AS (
        SELECT stage.parent AS key, count(*) AS number, bool_or(mine.digest IS NOT NULL) AS kept
        FROM canopy_stage AS stage LEFT JOIN mine USING (key)
        WHERE stage.parent IN (SELECT key FROM mine) GROUP BY stage.parent
    ),
    -- The latest checkpoint of every unfinished trial; a trial without a live worker pauses.
    standing AS (
        SELECT DISTINCT ON (epoch.trial_id) mine.key,
            owner.worker IS NULL OR owner.worker NOT IN ({LIVING}) AS pauses
        FROM canopy_epoch AS epoch JOIN mine ON mine.key = epoch.stage
        JOIN trials USING (trial_id) LEFT JOIN canopy_trial AS owner USING (trial_id)
        WHERE trials.state = 'RUNNING' AND mine.digest IS NOT NULL
        ORDER BY epoch.trial_id, epoch.epoch DESC
    )
    SELECT mine.key, stage.epoch, mine.size, mine.used, mine.digest IS NOT NULL AS is_whole,
        CASE
            WHEN mine.key IN (SELECT key FROM standing WHERE NOT pauses) THEN 5
            WHEN mine.digest IS NULL AND mine.worker IN ({LIVING}) THEN 5
            WHEN mine.digest IS NULL THEN 0 -- a dead worker's, or about to be removed
            WHEN stage.epoch = 1 OR children.number > 1 THEN 4
            WHEN mine.key IN (SELECT key FROM standing WHERE pauses) THEN 3
            WHEN children.kept THEN 0
            WHEN mine.is_end THEN 1
            ELSE 2
        END AS priority
    FROM mine LEFT JOIN canopy_stage AS stage USING (key) LEFT JOIN children USING (key)
    ORDER BY priority, mine.used, mine.key
""")  # noqa: S608 - our own text


def entries_by_priority(connection: sqlalchemy.Connection, place: str) -> list[Checkpoint]:
    """Returns all recorded checkpoints of a location in the order of eviction."""
    return [
        Checkpoint(
            row.key, row.epoch, row.size, EvictionPriority(row.priority), row.used, row.is_whole
        )
        for row in connection.execute(_ENTRIES, {"place": place})
    ]


def candidates(
    entries: Sequence[Checkpoint], excess_bytes: int, limit: EvictionPriority
) -> list[Checkpoint]:
    """Returns the checkpoints to evict so that `excess_bytes` get free, as far as possible.

    Args:
        entries: as `entries_by_priority` orders them.
        excess_bytes: to be freed.
        limit: highest priority that may be evicted.
    """
    chosen = []
    for entry in entries:
        if excess_bytes <= 0 or entry.priority > limit:
            break
        chosen.append(entry)
        excess_bytes -= entry.size
    return chosen
