"""Studies: Optuna's storage, and what we store in addition for each study and epoch."""

import difflib
import getpass
import json
import os
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import optuna
import sqlalchemy
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy.dialects import postgresql

from canopy_search.storage.connection.urls import connect_options, optuna_url
from canopy_search.storage.database import Database
from canopy_search.storage.errors import (
    DatabaseSchemaError,
    StudyArchivedError,
    StudyDirectionError,
    UnknownStudyError,
)
from canopy_search.storage.schema.tables import EPOCH, STUDIES, STUDY, TRIALS
from canopy_search.storage.study.epochs import EpochRecord
from canopy_search.storage.study.json_numbers import check_finite
from canopy_search.storage.study.mirror_rows import MirroredTask, MirrorState, read_mirrors
from canopy_search.storage.study.replica import StudyReplica
from canopy_search.storage.study.trial_queue import TrialQueue
from canopy_search.storage.workers.control import ARCHIVED, PAUSE, RUN
from canopy_search.storage.workers.registry import WorkerSummary, left_behind, list_workers
from canopy_search.storage.workers.session import WorkerSession

_ATTRIBUTES = "SELECT key, value_json FROM study_system_attributes WHERE study_id = :study_id"
# Notes and figures may be large, and the search does not use them.
_SEARCH_ATTRIBUTES = sqlalchemy.text(f"{_ATTRIBUTES} AND key NOT LIKE 'dashboard:%'")
_SET_ATTRIBUTES = sqlalchemy.text("""
    INSERT INTO study_system_attributes (study_id, key, value_json)
    SELECT :study_id, * FROM unnest(CAST(:keys AS text[]), CAST(:values AS text[]))
    ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
""")
# The other locks of two numbers are those of a study's waiting workers, from 0.
_LOCK_ATTRIBUTES = sqlalchemy.text("SELECT pg_advisory_xact_lock(:study_id, -1)")


class StudyStore:
    """All studies of a database.

    A method that takes the name of a study raises UnknownStudyError if there is none, unless it
    says otherwise.

    Args:
        database: an open one, which the caller closes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine = database.engine

    @cached_property
    def optuna_storage(self) -> RDBStorage:
        """Optuna's own storage, with connections of its own; workers do not use it.

        Raises:
            DatabaseSchemaError: another version of Optuna changed its tables.
        """
        url = self._database.url
        try:
            return RDBStorage(
                optuna_url(url),
                engine_kwargs={
                    "pool_pre_ping": True,
                    "pool_size": 1,
                    "max_overflow": 1,
                    "connect_args": connect_options(url, "canopy"),
                },
                skip_table_creation=True,
            )
        except RuntimeError as error:
            raise DatabaseSchemaError(
                f"Optuna's tables in database {url.database!r} were created by another version of "
                "Optuna; update canopy-search"
            ) from error

    def close(self) -> None:
        """Closes Optuna's connections, if there are any."""
        if "optuna_storage" in vars(self):
            self.optuna_storage.remove_session()
            self.optuna_storage.engine.dispose()

    def names(self) -> list[str]:
        """Returns the names of all studies, sorted."""
        with self._engine.connect() as connection:
            return sorted(connection.scalars(sqlalchemy.select(STUDIES.c.study_name)))

    def open_study(
        self,
        name: str,
        *,
        sampler: BaseSampler | None = None,
        pruner: BasePruner | None = None,
    ) -> optuna.Study:
        """Returns the study with that name, and creates it if there is none.

        Raises:
            StudyDirectionError: the study exists, and does not maximise one value.
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
                f"study {name!r} exists and does not maximise a single value, so it was not "
                "created by Canopy; choose another name with --study"
            )
        return study

    def load_study(
        self,
        name: str,
        *,
        sampler: BaseSampler | None = None,
        pruner: BasePruner | None = None,
    ) -> optuna.Study:
        """Returns the study with that name."""
        self.study_id(name)
        return optuna.load_study(
            storage=self.optuna_storage, study_name=name, sampler=sampler, pruner=pruner
        )

    def name(self, study_id: int) -> str | None:
        """Returns the name of the study with that id; None if there is none."""
        query = sqlalchemy.select(STUDIES.c.study_name).where(STUDIES.c.study_id == study_id)
        with self._engine.connect() as connection:
            return connection.scalar(query)

    def study_of_trial(self, trial_id: int) -> int | None:
        """Returns the id of a trial's study; None if there is no such trial."""
        query = sqlalchemy.select(TRIALS.c.study_id).where(TRIALS.c.trial_id == trial_id)
        with self._engine.connect() as connection:
            return connection.scalar(query)

    def read_record(self, name: str) -> dict[str, Any] | None:
        """Returns the record of a study from its start, if there is one."""
        record: dict[str, Any] | None = self._read(name, STUDY.c.record)
        return record

    def is_started(self, name: str) -> bool:
        """Whether a search has started the study and written its record."""
        try:
            return self.read_record(name) is not None
        except UnknownStudyError:
            return False

    def write_record(self, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the record of a study, unless there is one.

        Args:
            name: of the study.
            record: JSON values.

        Returns:
            The stored record: `record`, or that of the process that was first.

        Raises:
            ValueError: a number is NaN or infinite.
        """
        check_finite("record", record)
        study_id = self.study_id(name)
        values = {"study_id": study_id, "record": record, "owner": _user()}
        insert = postgresql.insert(STUDY).values(values)
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
            self.study_id(name), trial_number
        )

    def epochs(
        self, name: str, numbers: Sequence[int] | None = None
    ) -> dict[int, list[EpochRecord]]:
        """Returns the recorded epochs of a study, in order, by trial number.

        Args:
            name: of the study.
            numbers: of the trials; None for all.

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
            .where(TRIALS.c.study_id == self.study_id(name))
            .order_by(TRIALS.c.number, EPOCH.c.epoch)
        )
        if numbers is not None:
            query = query.where(TRIALS.c.number.in_(numbers))
        found: defaultdict[int, list[EpochRecord]] = defaultdict(list)
        with self._engine.connect() as connection:
            for number, *values in connection.execute(query):
                found[number].append(EpochRecord(*values))
        return dict(found)

    def open_trial_queue(self, name: str, session: WorkerSession) -> TrialQueue:
        """Returns the trial queue of a study for one worker."""
        study_id = self.study_id(name)
        with self._engine.connect() as connection:
            rows = connection.execute(_SEARCH_ATTRIBUTES, {"study_id": study_id})
            attributes = {key: json.loads(text) for key, text in rows}
        return TrialQueue(self._engine, session, study_id, name, attributes)

    @contextmanager
    def changing_attributes(self, study_id: int) -> Iterator[dict[str, Any]]:
        """Yields the system attributes of a study; changed and new ones are written at the end.

        One process at a time changes them so; the search is not locked.

        Args:
            study_id: the database's id of the study.
        """
        values = {"study_id": study_id}
        with self._engine.begin() as connection:
            connection.execute(_LOCK_ATTRIBUTES, values)
            rows = connection.execute(sqlalchemy.text(_ATTRIBUTES), values)
            before = {row.key: row.value_json for row in rows}
            attributes = {key: json.loads(text) for key, text in before.items()}
            yield attributes
            texts = {key: json.dumps(value) for key, value in attributes.items()}
            changed = {key: text for key, text in texts.items() if before.get(key) != text}
            if changed:
                arrays = {"keys": list(changed), "values": list(changed.values())}
                connection.execute(_SET_ATTRIBUTES, {**values, **arrays})

    def open_replica(self, name: str) -> StudyReplica:
        """Returns the trials of a study for reading only; it is empty before `refresh`."""
        return StudyReplica(self.study_id(name), name, {})

    def trials(self, name: str) -> list[FrozenTrial]:
        """Returns the trials of a study, unusable ones as failed ones.

        Raises:
            DatabaseSchemaError: another version of Optuna changed its tables.
        """
        replica = self.open_replica(name)
        self.refresh(replica)
        return replica.get_all_trials(replica.study_id, deepcopy=False)

    def refresh(self, replica: StudyReplica) -> None:
        """Reads what has changed in a study since the last time."""
        with self._engine.begin() as connection:
            replica.refresh(connection, check=True)

    def study_id(self, name: str) -> int:
        """Returns the database's id of a study."""
        query = sqlalchemy.select(STUDIES.c.study_id).where(STUDIES.c.study_name == name)
        with self._engine.connect() as connection:
            study_id = connection.scalar(query)
        if study_id is None:
            raise UnknownStudyError(self._unknown(name))
        return int(study_id)

    def launch(self, name: str, target: int, search: Mapping[str, Any]) -> None:
        """Sets the target of a study, and starts to count failures anew.

        A stopped study runs again; a paused one stays paused.

        Args:
            name: of the study.
            target: number of finished trials.
            search: configuration of the search, JSON values, for workers on other machines.

        Raises:
            StudyArchivedError: it is archived.
        """
        self.check_not_archived(name)
        stays = STUDY.c.control == PAUSE
        control = sqlalchemy.case((stays, PAUSE), else_=RUN)
        now = sqlalchemy.func.now()
        self._update(name, target=target, search=dict(search), launched=now, control=control)

    def launched(self, name: str) -> dict[str, Any] | None:
        """Returns the configuration of a study's last launch; None before the first."""
        search: dict[str, Any] | None = self._read(name, STUDY.c.search)
        return search

    def set_control(self, name: str, control: str) -> str:
        """Sets the control state of a study; see `storage.workers.control`.

        Returns:
            The previous state.

        Raises:
            StudyArchivedError: it is archived.
        """
        self.check_not_archived(name)
        before = self.control(name)
        self._update(name, control=control)
        return before

    def control(self, name: str) -> str:
        """Returns the control state of a study."""
        return str(self._read(name, STUDY.c.control) or RUN)

    def check_not_archived(self, name: str) -> None:
        """Raises StudyArchivedError if a study is archived."""
        if self.control(name) == ARCHIVED:
            raise StudyArchivedError(
                f"study {name!r} is archived; to change it, first run: "
                f"canopy studies archive --undo {shlex.quote(name)}"
            )

    def target(self, name: str) -> int | None:
        """Returns the target number of finished trials, if it is set."""
        target: int | None = self._read(name, STUDY.c.target)
        return target

    def _read(self, name: str, column: sqlalchemy.Column[Any]) -> Any:
        query = sqlalchemy.select(column).where(STUDY.c.study_id == self.study_id(name))
        with self._engine.connect() as connection:
            return connection.scalar(query)

    def _update(self, name: str, **values: Any) -> None:
        update = sqlalchemy.update(STUDY).where(STUDY.c.study_id == self.study_id(name))
        with self._engine.begin() as connection:
            connection.execute(update.values(**values))

    def workers(self, name: str) -> list[WorkerSummary]:
        """Returns the current and former workers of a study, in the order of their start."""
        with self._engine.connect() as connection:
            return list_workers(connection, name)

    def left_behind(self, name: str) -> set[int]:
        """Returns the numbers of running trials without a live worker, paused ones included."""
        with self._engine.connect() as connection:
            return left_behind(connection, name)

    def mirrors(self, name: str) -> list[tuple[MirrorState, dict[int, MirroredTask]]]:
        """Returns the mirrors of a study with what each has sent, the last used first."""
        study_id = self.study_id(name)
        with self._engine.connect() as connection:
            return read_mirrors(connection, study_id)

    def _unknown(self, name: str) -> str:
        nearest = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {nearest[0]!r}? Otherwise " if nearest else ""
        command = f"canopy search --study {shlex.quote(name)}"
        return f"there is no study {name!r}; {hint}start it with: {command}"


def _user() -> str:
    """Returns the name of the operating system's user, or the number of one without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in containers
        return f"uid {os.getuid()}"
