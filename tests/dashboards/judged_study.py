"""A study whose trials have epochs, and predictions of known quality."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from sklearn.metrics import average_precision_score

from canopy_search.storage.database import Database
from canopy_search.storage.study.epochs import add_trained
from canopy_search.storage.study.predictions import Predictions, predicting
from canopy_search.storage.study.studies import StudyStore
from tests.dashboards.simulated_predictions import EQUAL, SimulatedData
from tests.databases import stored_trial_id

EPOCHS = 3
BACKBONES = ("resnet18", "<b>net</b>")
FAILURE = "=OSError: [Errno 28] the disk is full"
"""Why a trial failed, in words that a spreadsheet would compute."""
_SPACE = {
    "backbone": CategoricalDistribution(BACKBONES),
    "gamma": FloatDistribution(0.8, 1.0, step=0.01),
}


def make_judged_study(
    database: Database,
    qualities: Sequence[float],
    *,
    name: str = "planet",
    data: SimulatedData | None = None,
    without_predictions: Sequence[int] = (),
) -> dict[int, Predictions]:
    """Records complete trials of a few epochs each, and a pruned and a failed one behind them.

    Args:
        database: an opened one.
        qualities: of the trials' models after their last epoch.
        name: of the study.
        data: what they are validated on.
        without_predictions: numbers of trials of which none are kept.

    Returns:
        What each complete trial's model says.
    """
    data = data or SimulatedData(0)
    store = StudyStore(database)
    study = store.open_study(name)
    store.write_record(name, _record_of(data))
    predictions = {}
    for number, quality in enumerate(qualities):
        models = [data.model(quality * epoch / EPOCHS) for epoch in range(1, EPOCHS + 1)]
        _record(database, store, study, models, TrialState.COMPLETE)
        if number not in without_predictions:
            predictions[number] = models[-1]
            with database.engine.begin() as connection:
                key, last = f"{name} {number} {EPOCHS}", models[-1]
                predicting(key, last.validation, last.logits)(connection)
    _record(database, store, study, [data.model(EQUAL / EPOCHS)], TrialState.PRUNED)
    _record(database, store, study, [], TrialState.FAIL)
    store.close()
    return predictions


def _record(
    database: Database,
    store: StudyStore,
    study: optuna.Study,
    models: Sequence[Predictions],
    state: TrialState,
) -> None:
    metrics = [_metrics(epoch, model) for epoch, model in enumerate(models, start=1)]
    number = len(study.get_trials(deepcopy=False))
    study.add_trial(
        create_trial(
            state=state,
            value=metrics[-1]["val_ap"] if metrics else None,
            params={"backbone": BACKBONES[number % 2], "gamma": 0.8 + (number % 20) / 100},
            distributions=_SPACE,
            intermediate_values={each["epoch"]: each["val_ap"] for each in metrics},
            user_attrs={} if metrics else {"reason": FAILURE},
        )
    )
    trial_id = stored_trial_id(store, study.study_name, number)
    with database.engine.begin() as connection:
        for epoch, each in enumerate(metrics, start=1):
            add_trained(connection, trial_id, epoch, each, f"{study.study_name} {number} {epoch}")


def _record_of(data: SimulatedData) -> dict[str, Any]:
    """Returns what such a study began with, as far as pages read it."""
    return {
        "data": {"image_px": 64, "fingerprint": data.validation.digest * 5},
        "training": {
            "epochs": EPOCHS,
            "backbone": "resnet18",
            "gamma": 1.0,
            "device": "cpu",
            "optimizer": {"name": "adam", "lr": 0.001},
        },
        "versions": {"torch": "2.14.1"},
    }


def _metrics(epoch: int, model: Predictions) -> dict[str, Any]:
    targets, labels = model.validation.targets, model.validation.labels
    each = {
        label: float(average_precision_score(targets[:, index], model.logits[:, index]))
        for index, label in enumerate(labels)
    }
    return {
        "epoch": epoch,
        "lr": 0.001,
        "train_bce_loss": 0.5 / epoch,
        "val_ap": float(np.mean(list(each.values()))),
        "val_f1": None if epoch == 1 else 0.5,
        "val_bce_loss": 0.6 / epoch,
        "val_ap_per_label": each,
        "train_s": 60.0,
        "val_s": 5.0,
    }
