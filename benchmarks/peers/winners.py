"""Test AP of the settings that searches chose: each trained once more, in full, by one program."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peers.loops import CanopyTraining
from benchmarks.peers.task import SHAPES


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
        training = CanopyTraining(data, SHAPES, threads=1)
    for key, params in missing.items():
        run = training.run(params)
        while not run.is_finished:
            run.train_epoch()
        known[key] = float(run.evaluate(training.dataset.split.test).metrics.ap or 0.0)
        kept.write_text(json.dumps(known, indent=1))
    return {key: known[key] for key in wanted}


def setting_key(params: dict[str, Any]) -> str:
    """Returns a setting as a key."""
    return " ".join(map(str, params.values()))
