"""Studies and workers as `canopy status` finds them, made up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.workers.registry import WorkerSummary

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def worker(
    pid: int,
    trial: int | None = None,
    *,
    host: str = "forest",
    idle_s: float = 1.0,
    end: str | None = None,
    **changes: Any,
) -> WorkerSummary:
    made = WorkerSummary(
        id=pid,
        host=host,
        pid=pid,
        slot="cuda:0",
        started=NOW - timedelta(hours=1),
        seen=NOW - timedelta(seconds=idle_s),
        ended=NOW if end is not None else None,
        end_reason=end,
        doing=None,
        progressed=None,
        trial_number=trial,
        is_connected=end is None,
        idle_s=idle_s,
        stuck_s=idle_s,
    )
    return replace(made, **changes)


def at(trial: int, epoch: int, batch: int) -> dict[str, int]:
    """What a worker says that it does."""
    return {"trial": trial, "epoch": epoch, "epochs": 8, "batch": batch, "batches": 20}


def trial(number: int, state: str, epochs: int = 0, **changes: Any) -> TrialData:
    params = {"backbone": "tinycnn_16", "loss": "bce", "gamma": 0.93}
    metrics = [
        {"val_ap": 0.1 * (epoch + 1), "train_s": 2.0, "val_s": 1.0} for epoch in range(epochs)
    ]
    val_ap = metrics[-1]["val_ap"] if metrics else None
    made = TrialData(number, state, params, val_ap, None, metrics, epochs, trained_s=3.0 * epochs)
    return replace(made, **changes)


def study(
    trials: list[TrialData],
    workers: list[WorkerSummary],
    *,
    control: str = "run",
    target: int | None = 20,
) -> StudyData:
    return StudyData("planet", trials, workers, control, target, record={})
