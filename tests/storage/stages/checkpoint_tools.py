"""What tests of checkpoints have in common."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy.dialects import postgresql

from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import TRIAL
from canopy_search.storage.stages.checkpoints import CheckpointStore
from canopy_search.storage.stages.eviction_order import EvictionPriority
from canopy_search.storage.stages.stages import Stage, StageStore

Opener = Callable[..., CheckpointStore]


def chain(stages: StageStore, *keys: str, trial_id: int | None = None) -> None:
    """Records a run with these stages."""
    for index, key in enumerate(keys):
        metrics = {"val_ap": 0.5}
        parent = keys[index - 1] if index else None
        stage = Stage(key, index + 1, metrics)
        stages.write([stages.recording(stage, parent, trial_id=trial_id)])


def announcing(database: Database, store: CheckpointStore) -> StageStore:
    """The stages as the worker of `store` sees them."""
    session: Any = SimpleNamespace(worker=store._worker, is_recovering=True)
    return StageStore(database, session)


def set_worker(database: Database, trial_id: int, worker: int | None) -> None:
    """Leases a trial to a worker, or to nobody."""
    insert = postgresql.insert(TRIAL).values(trial_id=trial_id, worker=worker)
    update = insert.on_conflict_do_update(index_elements=["trial_id"], set_={"worker": worker})
    with database.engine.begin() as connection:
        connection.execute(update)


def path_of(folder: Path, key: str) -> Path:
    [found] = folder.glob(f"*/{key}.pt")
    return found


def worths(store: CheckpointStore) -> dict[str, EvictionPriority]:
    return {entry.key: entry.priority for entry in store.entries()}
