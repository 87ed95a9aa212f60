"""The epochs of trials: their metrics, and whether they were trained or reused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql

from canopy_search.storage.schema.tables import EPOCH


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one trial.

    Attributes:
        epoch: counts from 1.
        metrics: as first recorded; None for a value that is not a number.
        times_trained: how often it was trained for this trial, repetitions after a crash included.
        recorded: when it was first recorded.
        replayed: whether its metrics were reused from another run.
        stage: its stage key, if the trial is a branch of the stage tree.
    """

    epoch: int
    metrics: dict[str, Any]
    times_trained: int
    recorded: datetime
    replayed: bool = False
    stage: str | None = None


def add_trained(
    connection: sqlalchemy.Connection,
    trial_id: int,
    epoch: int,
    metrics: Mapping[str, Any],
    stage: str | None = None,
) -> None:
    """Records an epoch that was trained for a trial.

    An epoch that the trial already has keeps its metrics, and its count is increased.
    """
    insert = postgresql.insert(EPOCH).values(
        trial_id=trial_id, epoch=epoch, metrics=metrics, stage=stage
    )
    count = insert.on_conflict_do_update(
        index_elements=[EPOCH.c.trial_id, EPOCH.c.epoch],
        set_={"times_trained": EPOCH.c.times_trained + 1},
    )
    connection.execute(count)


def replaying(
    trial_id: int, epoch: int, metrics: Mapping[str, Any], stage: str
) -> Callable[[sqlalchemy.Connection], None]:
    """Returns a function that records a reused epoch of a trial, unless the trial has it."""
    values = {"trial_id": trial_id, "epoch": epoch, "metrics": metrics, "stage": stage}
    insert = postgresql.insert(EPOCH).values(**values, times_trained=0, replayed=True)

    def write(connection: sqlalchemy.Connection) -> None:
        connection.execute(insert.on_conflict_do_nothing())

    return write
