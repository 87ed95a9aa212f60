"""Studies: Optuna's storage, and what we keep beside it for each study and epoch."""

import difflib
import shlex
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import optuna
import sqlalchemy
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.dialects import postgresql

from storage.connecting import optuna_url
from storage.database import Database, engine_options
from storage.epochs import EpochRecord, add_replayed
from storage.errors import DatabaseSchemaError, StudyDirectionError, UnknownStudyError
from storage.finite import check_finite
from storage.locks import StudyLock, is_study_locked, study_lock
from storage.tables import EPOCH, STUDY, TRIAL, TRIALS


class StudyStore:
    """All studies of a database.

    Args:
        database: an opened one. It stays the caller's to close.

    Raises:
        DatabaseSchemaError: another Optuna changed its tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine = database.engine
        try:
            self.optuna_storage = RDBStorage(
                optuna_url(database.url),
                engine_kwargs=engine_options(database.url),
                skip_table_creation=True,
            )
        except RuntimeError as error:
            raise DatabaseSchemaError(
                f"Optuna's tables in database {database.url.database!r} were made by another "
                "Optuna than this one; update canopy-search"
            ) from error

    def close(self) -> None:
        """Closes Optuna's connections."""
        self.optuna_storage.remove_session()
        self.optuna_storage.engine.dispose()

    def names(self) -> list[str]:
        """Returns the names of all studies, sorted."""
        return sorted(study.study_name for study in self.optuna_storage.get_all_studies())

    def open_study(
        self,
        name: str,
        *,
        sampler: BaseSampler | None = None,
        pruner: BasePruner | None = None,
    ) -> optuna.Study:
        """Returns the study of that name, which is begun if there is none.

        Raises:
            StudyDirectionError: somebody else's study of that name does not maximise one value.
        """
        study = optuna.create_study(
            storage=self.optuna_storage,
            study_name=name,
            direction=StudyDirection.MAXIMIZE,
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
        if study.directions != [StudyDirection.MAXIMIZE]:
            raise StudyDirectionError(
                f"study {name!r} exists and does not maximise a single value, so it was not made "
                "by Canopy; choose another name with --study"
            )
        return study

    def load_study(
        self,
        name: str,
        *,
        sampler: BaseSampler | None = None,
        pruner: BasePruner | None = None,
    ) -> optuna.Study:
        """Returns the study of that name.

        Raises:
            UnknownStudyError: there is none.
        """
        self._study_id(name)
        return optuna.load_study(
            storage=self.optuna_storage, study_name=name, sampler=sampler, pruner=pruner
        )

    def read_record(self, name: str) -> dict[str, Any] | None:
        """Returns what was recorded for a study when it began, if anything was.

        Raises:
            UnknownStudyError: there is no such study.
        """
        query = sqlalchemy.select(STUDY.c.record).where(STUDY.c.study_id == self._study_id(name))
        with self._engine.connect() as connection:
            record: dict[str, Any] | None = connection.scalar(query)
        return record

    def write_record(self, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Records what a study began with, unless something is recorded already.

        Args:
            name: of the study.
            record: JSON values.

        Returns:
            What is recorded: `record`, or that of the process that came first.

        Raises:
            UnknownStudyError: there is no such study.
            ValueError: a number is NaN or infinite.
        """
        check_finite("record", record)
        study_id = self._study_id(name)
        insert = postgresql.insert(STUDY).values(study_id=study_id, record=record)
        query = sqlalchemy.select(STUDY.c.record).where(STUDY.c.study_id == study_id)
        with self._engine.begin() as connection:
            connection.execute(insert.on_conflict_do_nothing())
            kept: dict[str, Any] = connection.execute(query).scalar_one()
        return kept

    def trial_id(self, name: str, trial_number: int) -> int:
        """Returns the database's id of a trial.

        Raises:
            UnknownStudyError: there is no such study.
            KeyError: it has no such trial.
        """
        return self.optuna_storage.get_trial_id_from_study_id_trial_number(
            self._study_id(name), trial_number
        )

    def replay_epoch(
        self, trial_id: int, epoch: int, metrics: Mapping[str, Any], stage: str
    ) -> None:
        """Records an epoch of a trial whose stage was known already, unless the trial has it."""
        with self._engine.begin() as connection:
            add_replayed(connection, trial_id, epoch, metrics, stage)

    def set_worker(self, trial_id: int, worker: int | None) -> None:
        """Records who works on a trial; None for a trial that pauses or has ended."""
        values = {"trial_id": trial_id, "worker": worker}
        insert = postgresql.insert(TRIAL).values(**values)
        update = insert.on_conflict_do_update(
            index_elements=[TRIAL.c.trial_id], set_={"worker": worker}
        )
        with self._engine.begin() as connection:
            connection.execute(update)

    def reported_epochs(self, trial_id: int) -> set[int]:
        """Returns the epochs that a trial has reported to Optuna."""
        return set(self.optuna_storage.get_trial(trial_id).intermediate_values)

    def epochs(self, name: str) -> dict[int, list[EpochRecord]]:
        """Returns all recorded epochs of a study, in their order, by the number of the trial.

        Raises:
            UnknownStudyError: there is no such study.
        """
        query = (
            sqlalchemy.select(
                TRIALS.c.number,
                EPOCH.c.epoch,
                EPOCH.c.metrics,
                EPOCH.c.times_trained,
                EPOCH.c.recorded,
                EPOCH.c.replayed,
                EPOCH.c.stage,
            )
            .join_from(EPOCH, TRIALS)
            .where(TRIALS.c.study_id == self._study_id(name))
            .order_by(TRIALS.c.number, EPOCH.c.epoch)
        )
        found: defaultdict[int, list[EpochRecord]] = defaultdict(list)
        with self._engine.connect() as connection:
            for number, *values in connection.execute(query):
                found[number].append(EpochRecord(*values))
        return dict(found)

    def lock_study(self, name: str) -> AbstractContextManager[StudyLock]:
        """Returns a context in which this process alone searches the study, begun or not.

        Raises:
            StudyBusyError: on entering, when another process does.
        """
        return study_lock(self._database.url, name)

    def is_locked(self, name: str) -> bool:
        """Says whether a process searches the study now."""
        with self._engine.connect() as connection:
            return is_study_locked(connection, name)

    def _study_id(self, name: str) -> int:
        try:
            return self.optuna_storage.get_study_id_from_name(name)
        except KeyError:
            raise UnknownStudyError(self._unknown(name)) from None

    def _unknown(self, name: str) -> str:
        nearest = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {nearest[0]!r}? Otherwise " if nearest else ""
        command = f"canopy search --study {shlex.quote(name)}"
        return f"there is no study {name!r}; {hint}begin it with: {command}"
