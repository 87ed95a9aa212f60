"""Test AP of the settings that searches chose: each trained once more, in full, by one program."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peers.task import IMAGE_SETTINGS, SHAPES, TRAINING_SEED
from canopy_search.training.data.dataset import open_dataset
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import (
    DataSettings,
    OptimizerSettings,
    SplitSettings,
    TrainingSettings,
)


def test_aps(data: Path, home: Path, settings: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Returns `setting_key` → test AP; what was trained before is read from the state folder.

    Args:
        data: folder of images and ``labels.csv``, whose column ``split`` says what is for test.
        home: the state folder.
        settings: backbone, loss and gamma of each.
    """
    kept = home / "test_ap.json"
    known: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    wanted = {setting_key(params): params for params in settings}
    missing = {key: params for key, params in wanted.items() if key not in known}
    if missing:
        dataset = open_dataset(
            DataSettings(
                labels=data / "labels.csv",
                images=data / "images",
                split=SplitSettings(column="split"),
                **IMAGE_SETTINGS,
            ),
            home,
        )
    for key, params in missing.items():
        run = TrainingRun.of(
            TrainingSettings(
                **params,
                epochs=SHAPES.epochs,
                batch_size=32,
                seed=TRAINING_SEED,
                threads=1,
                optimizer=OptimizerSettings(name="adam", lr=4e-3),
            ),
            dataset,
        )
        while not run.is_finished:
            run.train_epoch()
        known[key] = float(run.evaluate(dataset.split.test).metrics.ap or 0.0)
        kept.write_text(json.dumps(known, indent=1))
    return {key: known[key] for key in wanted}


def setting_key(params: dict[str, Any]) -> str:
    """Returns a setting as a key."""
    return f"{params['backbone']} {params['loss']} {params['gamma']}"
