"""Studies as pages show them, made up, with a truth that is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.epochs import EpochRecord
from canopy_search.storage.study.trial_attributes import PAUSED
from canopy_search.storage.workers.registry import WorkerSummary
from tests.dashboards.summaries import study

BEGIN = datetime(2026, 3, 1, 9, tzinfo=UTC)
EPOCHS = 8
TRAIN_S, VAL_S = 9.0, 1.0
SPACE: dict[str, BaseDistribution] = {
    "backbone": CategoricalDistribution(["tinycnn_8", "tinycnn_16", "resnet18"]),
    "loss": CategoricalDistribution(["bce", "focal_bce"]),
    "gamma": FloatDistribution(0.8, 1.0, step=0.01),
}
RECORD: dict[str, Any] = {
    "data": {"fingerprint": "0123456789abcdef", "labels": ["road", "water"]},
    "training": {
        "epochs": EPOCHS,
        "device": "cpu",
        "backbone": "tinycnn_8",
        "loss": "bce",
        "gamma": 1.0,
    },
    "config": {"search": {"enqueue": [], "space": {"backbone": [], "loss": [], "gamma": {}}}},
    "versions": {"optuna": "5.0.0"},
}
COMPLETE, PRUNED, RUNNING, FAILED = (
    TrialState.COMPLETE.name,
    TrialState.PRUNED.name,
    TrialState.RUNNING.name,
    TrialState.FAIL.name,
)
__all__ = ["COMPLETE", "FAILED", "PAUSED", "PRUNED", "RUNNING"]


def setting(backbone: str = "tinycnn_8", loss: str = "bce", gamma: float = 1.0) -> dict[str, Any]:
    return {"backbone": backbone, "loss": loss, "gamma": gamma}


def tree_keys(params: Mapping[str, Any], epochs: int) -> list[str]:
    """Stage keys as the real ones are: a first epoch knows nothing of gamma."""
    branch = "/".join(str(value) for name, value in params.items() if name != "gamma")
    return [branch, *(f"{branch}/{params.get('gamma')}/{e}" for e in range(2, epochs + 1))][:epochs]


@dataclass(frozen=True)
class Epochs:
    """The epochs of a trial.

    Attributes:
        trained: those that were trained for it; all by default.
        per_label: label → AP after each epoch.
        begin_s: when the first one began, in seconds since `BEGIN`.
        epoch_s: how long each took.
    """

    trained: Sequence[int] | None = None
    per_label: Mapping[str, Sequence[float | None]] | None = None
    begin_s: float | None = None
    epoch_s: float = TRAIN_S + VAL_S


ALL_TRAINED = Epochs()


def trial(
    number: int,
    curve: Sequence[float] = (),
    state: str = COMPLETE,
    params: Mapping[str, Any] | None = None,
    *,
    epochs: Epochs = ALL_TRAINED,
    **changes: Any,
) -> TrialData:
    """Returns a trial of ours.

    Args:
        number: in its study.
        curve: validation AP after each epoch.
        state: as the summary says it.
        params: its setting.
        epochs: which were trained, and how.
        changes: of the summary.
    """
    params = setting() if params is None else params
    trained = range(1, len(curve) + 1) if epochs.trained is None else epochs.trained
    keys = tree_keys(params, len(curve))
    begin = BEGIN + timedelta(seconds=100.0 * number if epochs.begin_s is None else epochs.begin_s)
    stages = tuple(
        EpochRecord(
            epoch=epoch,
            metrics={
                "val_ap": ap,
                "train_s": epochs.epoch_s - VAL_S,
                "val_s": VAL_S,
                "val_ap_per_label": {
                    label: values[epoch - 1] for label, values in (epochs.per_label or {}).items()
                },
            },
            times_trained=int(epoch in trained),
            recorded=begin + timedelta(seconds=epochs.epoch_s * epoch),
            replayed=epoch not in trained,
            stage=keys[epoch - 1],
        )
        for epoch, ap in enumerate(curve, start=1)
    )
    made = TrialData(
        number=number,
        state=state,
        params=dict(params),
        val_ap=curve[-1] if curve else None,
        reason=None,
        metrics=[stage.metrics for stage in stages],
        epochs_trained=len(trained),
        epochs_replayed=len(curve) - len(trained),
        trained_s=epochs.epoch_s * len(trained),
        curve=tuple(enumerate(curve, start=1)),
        stages=stages,
    )
    return replace(made, **changes)


def data(
    trials: Sequence[TrialData],
    *,
    workers: Sequence[WorkerSummary] = (),
    target: int | None = None,
    **changes: Any,
) -> StudyData:
    """Returns a study that is over unless a target says that it is not."""
    made = replace(
        study(list(trials), list(workers), target=target),
        distributions=SPACE,
        read=datetime(2026, 3, 1, 12),
        record=RECORD,
        predictions={},
    )
    return replace(made, **changes)


def searched(count: int = 30, seed: int = 0) -> StudyData:
    """A study in which the backbone decides, and nothing else does.

    A third of its trials is complete, the others were pruned after one or four epochs; what a trial
    shares with one before it was not trained again.
    """
    dice = np.random.default_rng(seed)
    known: set[str] = set()
    trials = []
    for number in range(count):
        params = setting(
            str(dice.choice(["tinycnn_8", "tinycnn_16", "resnet18"])),
            str(dice.choice(["bce", "focal_bce"])),
            round(float(dice.integers(80, 101)) / 100, 2),
        )
        top = {"tinycnn_8": 0.4, "tinycnn_16": 0.5, "resnet18": 0.6}[params["backbone"]]
        epochs = (EPOCHS, 1, 4)[number % 3]
        curve = [top * (1 - 0.5**e) + 0.01 * float(dice.random()) for e in range(1, epochs + 1)]
        keys = tree_keys(params, epochs)
        new = [epoch for epoch, key in enumerate(keys, start=1) if key not in known]
        known.update(keys)
        per_label = {"road": curve, "water": [ap / 2 for ap in curve]}
        state = COMPLETE if epochs == EPOCHS else PRUNED
        trials.append(
            trial(number, curve, state, params, epochs=Epochs(trained=new, per_label=per_label))
        )
    return data(trials)
