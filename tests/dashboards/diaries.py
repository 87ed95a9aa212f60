"""Studies for diaries, made up in memory, with numbers that a test can recompute."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from canopy_search.dashboards.diary.contents import contents_of
from canopy_search.dashboards.diary.diary import diary_text
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.epochs import EpochRecord

BEGAN = datetime(2023, 9, 12, 9)
BASE = {"backbone": "resnet18", "loss": "bce", "gamma": 1.0}
SPACE: dict[str, BaseDistribution] = {
    "backbone": CategoricalDistribution(["resnet18", "resnet50", "resnet152"]),
    "loss": CategoricalDistribution(["bce", "weighted_bce", "focal_bce"]),
    "gamma": FloatDistribution(0.8, 1.0, step=0.01),
}
EPOCHS = 3


def record(enqueue: Sequence[Mapping[str, Any]] = (BASE,)) -> dict[str, Any]:
    """What a study began with, as far as a diary looks at it."""
    return {
        "config": {"search": {"enqueue": list(enqueue), "space": dict.fromkeys(SPACE)}},
        "training": {"epochs": EPOCHS, "batch_size": 64, "seed": 0},
        "data": {"labels": ["clear", "road"]},
    }


def metrics(epoch: int, ap: float, *, loss: str = "bce", seconds: float = 60.0) -> dict[str, Any]:
    """One epoch's numbers, all of which follow from its AP."""
    return {
        "epoch": epoch,
        "val_ap": ap,
        "val_f1": ap - 0.05,
        "val_precision": ap + 0.04,
        "val_recall": 0.9 - ap,
        "val_hamming": 0.3 - ap / 5,
        f"val_{loss}_loss": 1 - ap,
        "train_s": seconds,
        "val_s": 0.0,
    }


def trial(
    number: int,
    params: Mapping[str, Any],
    aps: Sequence[float],
    state: str = "COMPLETE",
    seconds: float = 60.0,
    **changes: Any,
) -> TrialData:
    """A trial that reported such an AP after each epoch; `changes` are of the summary."""
    began = BEGAN + timedelta(hours=number)
    each = [
        metrics(epoch, ap, loss=params.get("loss", "bce"), seconds=seconds)
        for epoch, ap in enumerate(aps, start=1)
    ]
    made = TrialData(
        number,
        state,
        dict(params),
        aps[-1] if aps else None,
        None,
        each,
        len(each),
        trained_s=seconds * len(each),
        began=began,
        curve=tuple((m["epoch"], m["val_ap"]) for m in each),
        stages=tuple(EpochRecord(m["epoch"], m, 1, began) for m in each),
    )
    return replace(made, **changes)


def study_of(
    trials: Sequence[TrialData],
    *,
    name: str = "planet",
    space: Mapping[str, BaseDistribution] | None = None,
    **changes: Any,
) -> StudyData:
    """A study of those trials."""
    made: dict[str, Any] = {"record": record()}
    return StudyData(
        name, trials, [], "run", len(trials), space or SPACE, BEGAN, **(made | changes)
    )


def diary_of(
    study: StudyData, words: Mapping[str, str] = MappingProxyType({}), **known: Any
) -> str:
    """The diary of a study, with the user's words, and with what is `known` besides the study."""
    return diary_text(replace(contents_of(study, set(words)), **known), words)
