"""Studies that are full of trials, as a search leaves them: parameters, reports, epochs, leases."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from optuna.trial import TrialState

from canopy_search.search.scheduling.pausing_pruner import rung_mark
from canopy_search.search.study.plan import SearchPlan
from canopy_search.storage.database import Database
from canopy_search.storage.study.epochs import add_trained
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import RUNG_ATTR, STAGES_ATTR
from canopy_search.storage.study.trial_changes import TrialChange, write_new

EPOCHS = 5
ENDLESS = 1_000_000
"""Finished trials that are wanted: more than any benchmark makes."""

_IDS = sqlalchemy.text(
    "SELECT nextval(pg_get_serial_sequence('trials', 'trial_id')) FROM generate_series(1, :count)"
)
_LEASES = sqlalchemy.text("""
    INSERT INTO canopy_trial (trial_id, token, writes, changed, taken, ended)
    SELECT trial_id, 1, 6, CAST(CAST(pg_current_xact_id() AS text) AS bigint), now(), now()
    FROM trials WHERE study_id = :study_id
""")


@dataclass(frozen=True)
class _Past:
    """What became of one trial."""

    state: TrialState
    epochs: int
    rung: int | None = None


def fill(
    database: Database,
    plan: SearchPlan,
    count: int,
    *,
    record: Mapping[str, Any] | None = None,
    target: int = ENDLESS,
) -> None:
    """Begins a study and gives it trials.

    By median, two of five trials are complete and the others pruned after one to four epochs. By
    promotion, one of sixteen is complete, three come to the fourth epoch and twelve to the first;
    half of these pause there and half are pruned. Those that came further were the better ones, so
    that nothing is left to promote.

    Args:
        database: in which nothing is stored yet.
        plan: of the study; its pruner decides what has become of the trials.
        count: how many trials.
        record: of the study; nothing is said of it by default.
        target: finished trials that are wanted.
    """
    store = StudyStore(database)
    store.open_study(plan.study)
    store.write_record(plan.study, record or {})
    store.launch(plan.study, target, plan.config.search.model_dump(mode="json"))
    store.close()
    study_id = store.study_id(plan.study)
    dice = random.Random(count)
    promotes = plan.config.search.pruner.name == "asha"
    with database.engine.begin() as connection:
        ids = list(connection.scalars(_IDS, {"count": count}))
        for number, trial_id in enumerate(ids):
            past = _promoted(number) if promotes else _by_median(dice)
            params = {
                name: (float(_drawn(dice, distribution)), distribution)
                for name, distribution in plan.space.distributions.items()
            }
            change = _change(trial_id, past, params, dice)
            write_new(connection, study_id, number, change)
            for epoch, val_ap in change.reports.items():
                metrics = _metrics(epoch, val_ap)
                add_trained(connection, trial_id, epoch, metrics, f"{trial_id} {epoch}")
        connection.execute(_LEASES, {"study_id": study_id})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text("VACUUM ANALYZE"))


def _by_median(dice: random.Random) -> _Past:
    if dice.random() < 0.4:
        return _Past(TrialState.COMPLETE, EPOCHS)
    return _Past(TrialState.PRUNED, dice.randint(1, EPOCHS - 1))


def _promoted(number: int) -> _Past:
    place = number % 16
    if place == 0:
        return _Past(TrialState.COMPLETE, EPOCHS, rung=EPOCHS)
    state = TrialState.RUNNING if place % 2 else TrialState.PRUNED
    rung = 4 if place < 4 else 1
    return _Past(state, rung, rung)


def _change(
    trial_id: int, past: _Past, params: dict[str, tuple[float, Any]], dice: random.Random
) -> TrialChange:
    quality = past.epochs / 20 if past.rung else 0.2
    reports = {
        epoch: 0.2 + quality + 0.01 * epoch + 0.04 * dice.random()
        for epoch in range(1, past.epochs + 1)
    }
    ends = past.state != TrialState.RUNNING
    return TrialChange(
        trial_id,
        params=params,
        user_attrs={RUNG_ATTR: rung_mark(past.rung, paused=not ends)} if past.rung else {},
        system_attrs={STAGES_ATTR: [f"{dice.getrandbits(64):016x}" for _ in range(EPOCHS)]},
        reports=reports,
        state=past.state if ends else None,
        value=reports[past.epochs] if ends else None,
    )


def _drawn(dice: random.Random, distribution: Any) -> float:
    """Returns a value as Optuna stores it."""
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return dice.randrange(len(choices))
    steps = round((distribution.high - distribution.low) / distribution.step)
    return float(distribution.low + dice.randint(0, steps) * distribution.step)


def _metrics(epoch: int, val_ap: float) -> dict[str, Any]:
    """Returns as much as a real epoch records."""
    names = ("bce_loss", "f1", "f2", "precision", "recall", "hamming")
    scores = {f"val_{name}": val_ap / 2 for name in names}
    training = {"epoch": epoch, "lr": 0.003 * 0.9**epoch, "train_bce_loss": 1 - val_ap}
    per_label = {f"digit {digit}": val_ap for digit in range(10)}
    times = {"train_s": 1.0, "val_s": 0.1, "wait_s": 0.01, "images_per_s": 2000.0}
    rest = {"val_labels_without_positives": 0, "peak_memory_mib": 512.0}
    return {**training, "val_ap": val_ap, "val_ap_per_label": per_label, **scores, **times, **rest}
