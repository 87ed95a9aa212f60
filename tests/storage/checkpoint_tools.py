"""What tests of checkpoints have in common."""

from collections.abc import Callable
from pathlib import Path

from storage.checkpoint_worth import Worth
from storage.checkpoints import CheckpointStore
from storage.stages import Stage, StageStore

Opener = Callable[..., CheckpointStore]


def chain(stages: StageStore, *keys: str, trial_id: int | None = None) -> None:
    """Records a run with these stages."""
    for index, key in enumerate(keys):
        metrics = {"val_ap": 0.5}
        parent = keys[index - 1] if index else None
        stages.record(Stage(key, index + 1, metrics), parent, trial_id=trial_id)


def path_of(folder: Path, key: str) -> Path:
    [found] = folder.glob(f"*/{key}.pt")
    return found


def worths(store: CheckpointStore) -> dict[str, Worth]:
    return {entry.key: entry.worth for entry in store.entries()}
