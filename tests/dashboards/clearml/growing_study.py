"""A study that grows epoch by epoch as the test says, through what real workers write with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.study.plan import start_study
from canopy_search.storage.database import Database
from canopy_search.storage.study.epochs import add_trained
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import REASON_ATTR
from canopy_search.storage.study.trial_changes import TrialChange, write_change, write_new
from canopy_search.storage.workers.session import WorkerSession
from tests.noise_data import noise_dataset
from tests.planned import planned

EPOCHS = 3
LABELS = ("clear", "road")
_NEXT_ID = sqlalchemy.text("SELECT nextval(pg_get_serial_sequence('trials', 'trial_id'))")
_LEASE = sqlalchemy.text("""
    INSERT INTO canopy_trial (trial_id, worker, token, writes, changed, taken, ended)
    SELECT :trial_id, :worker, 1, 1, CAST(CAST(pg_current_xact_id() AS text) AS bigint), now(), NULL
    ON CONFLICT (trial_id) DO UPDATE SET worker = excluded.worker, changed = excluded.changed,
        writes = canopy_trial.writes + 1,
        ended = CASE WHEN CAST(:worker AS bigint) IS NULL THEN now() END
""")


class GrowingStudy:
    """A study, and one worker that does what the test says.

    Args:
        database: an opened one.
        home: a state folder.
        name: of the study.
        target: finished trials that are wanted.
    """

    def __init__(self, database: Database, home: Path, name: str, target: int) -> None:
        self.database, self.name, self.target = database, name, target
        config = CanopyConfig.model_validate(
            {
                "data": {"labels": "labels.csv", "images": "images", "image_px": 16},
                "training": {"epochs": EPOCHS, "backbone": "tinycnn_8", "threads": 1},
                "search": {
                    "study": name,
                    "space": {
                        "loss": ["bce", "weighted_bce"],
                        "gamma": {"low": 0.8, "high": 1.0, "step": 0.01},
                        "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
                    },
                },
            }
        )
        self.plan = planned(config, home, name, target)
        self.store = StudyStore(database)
        start_study(self.plan, self.store, noise_dataset(12, 6, 6))
        self.store.launch(name, target, config.search.model_dump(mode="json"))
        self.study_id = self.store.study_id(name)
        self._session = WorkerSession(database.url, study_id=self.study_id)
        self._session.register()
        self._session.start()
        self._ids: list[int] = []

    def close(self) -> None:
        self._session.close()
        self.store.close()

    def begin(self) -> int:
        """Begins a trial; returns its number."""
        number = len(self._ids)
        domains = self.plan.space.distributions
        params: dict[str, tuple[float, Any]] = {}
        for index, (name, domain) in enumerate(domains.items()):
            if isinstance(domain, CategoricalDistribution):
                params[name] = (float(number % len(domain.choices)), domain)
            else:
                share = ((number * 7 + index) % 21) / 20
                value = domain.low + share * (domain.high - domain.low)
                params[name] = (value, domain)
        with self.database.engine.begin() as connection:
            trial_id = int(connection.scalar(_NEXT_ID))
            write_new(connection, self.study_id, number, TrialChange(trial_id, params=params))
            self._lease(connection, trial_id, self._session.worker)
        self._ids.append(trial_id)
        return number

    def report(self, number: int, epoch: int) -> None:
        """Lets a trial report an epoch."""
        value = val_ap(number, epoch)
        trial_id = self._ids[number]
        with self.database.engine.begin() as connection:
            add_trained(connection, trial_id, epoch, metrics(number, epoch), f"{number} {epoch}")
            write_change(connection, TrialChange(trial_id, reports={epoch: value}))
            self._lease(connection, trial_id, self._session.worker)

    def end(self, number: int, state: TrialState, reason: str | None = None) -> None:
        """Ends a trial, with the AP that it reported last if it is complete or pruned."""
        trial_id = self._ids[number]
        reported = self.store.epochs(self.name).get(number, [])
        has_value = state != TrialState.FAIL and bool(reported)
        attributes: Mapping[str, Any] = {REASON_ATTR: reason} if reason else {}
        change = TrialChange(
            trial_id,
            user_attrs=dict(attributes),
            state=state,
            value=val_ap(number, len(reported)) if has_value else None,
        )
        with self.database.engine.begin() as connection:
            write_change(connection, change)
            self._lease(connection, trial_id, None)

    def run(self, epochs: int = EPOCHS, state: TrialState = TrialState.COMPLETE) -> int:
        """Runs a trial from its beginning to its end; returns its number."""
        number = self.begin()
        for epoch in range(1, epochs + 1):
            self.report(number, epoch)
        reasons = {TrialState.PRUNED: "below the median", TrialState.FAIL: "ValueError: a\nbad day"}
        self.end(number, state, reasons.get(state))
        return number

    @staticmethod
    def _lease(connection: sqlalchemy.Connection, trial_id: int, worker: int | None) -> None:
        connection.execute(_LEASE, {"trial_id": trial_id, "worker": worker})


def val_ap(number: int, epoch: int) -> float:
    """Returns a number that no other trial and epoch has."""
    return 0.3 + 0.1 * epoch + 0.0123 * ((number * 37) % 101) / 101 + number * 1e-6


def metrics(number: int, epoch: int) -> dict[str, Any]:
    """Returns what a real epoch records."""
    value = val_ap(number, epoch)
    return {
        "epoch": epoch,
        "lr": 0.001 * 0.9 ** (epoch - 1),
        "train_bce_loss": 1 - value,
        "val_ap": value,
        "val_f1": value / 2,
        "val_f2": value / 3,
        "val_precision": value / 4,
        "val_recall": value / 5,
        "val_hamming": value / 6,
        "val_bce_loss": 1.1 - value,
        "val_ap_per_label": dict(zip(LABELS, (value, value / 2), strict=True)),
        "val_labels_without_positives": 0,
        "train_s": 1.5,
        "val_s": 0.25,
        "wait_s": 0.01,
        "images_per_s": 2000.0 + number,
        "peak_memory_mib": 512.0,
    }
