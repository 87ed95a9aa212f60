"""All studies of a database as things: listed, removed, renamed, copied, archived."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy
from optuna.storages._rdb.models import BaseModel
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from canopy_search.storage.database import Database
from canopy_search.storage.errors import StudyBusyError, StudyExistsError
from canopy_search.storage.schema.tables import (
    EPOCH,
    PREDICTION,
    STAGE,
    STUDIES,
    STUDY,
    TEST,
    TRIAL,
    TRIALS,
    VALIDATION,
)
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.control import ARCHIVED, RUN
from canopy_search.storage.workers.registry import list_workers

# Rows of the older tables lack some columns, so they are read from the whole row.
_USAGE = sqlalchemy.text("""
    WITH stages AS MATERIALIZED (
        SELECT DISTINCT study_id, stage AS key FROM canopy_epoch JOIN trials USING (trial_id)
    ), trained AS (
        SELECT study_id, max(recorded) AS recorded,
            sum(coalesce(CAST(metrics ->> 'train_s' AS float8), 0)
                + coalesce(CAST(metrics ->> 'val_s' AS float8), 0))
                FILTER (WHERE times_trained > 0) AS seconds
        FROM canopy_epoch JOIN trials USING (trial_id) GROUP BY study_id
    ), stored AS (
        SELECT study_id, sum(size) AS bytes FROM (
            SELECT study_id, size FROM stages JOIN canopy_checkpoint USING (key)
            UNION ALL
            SELECT study_id, octet_length(logits) FROM stages JOIN canopy_prediction USING (key)
        ) AS parts GROUP BY study_id
    )
    SELECT study_name, to_jsonb(canopy_study) ->> 'owner', coalesce(control, :run),
        coalesce(seconds, 0), CAST(coalesce(bytes, 0) AS bigint),
        greatest(recorded, launched, created)
    FROM studies LEFT JOIN canopy_study USING (study_id)
    LEFT JOIN trained USING (study_id) LEFT JOIN stored USING (study_id)
    ORDER BY study_name
""")
# Epochs of these studies that no other study refers to, and that nobody trains now.
_OWN_STAGES = sqlalchemy.text("""
    WITH mine AS (
        SELECT stage AS key FROM canopy_epoch JOIN trials USING (trial_id)
            WHERE study_id = ANY(:studies) AND stage IS NOT NULL
        UNION
        SELECT key FROM canopy_stage JOIN trials USING (trial_id) WHERE study_id = ANY(:studies)
    )
    SELECT key FROM mine WHERE key NOT IN (SELECT key FROM canopy_stage_lease) AND NOT EXISTS (
        SELECT FROM canopy_epoch JOIN trials USING (trial_id)
        WHERE stage = mine.key AND study_id <> ALL(:studies))
""")
_FORGET_STAGES = [
    sqlalchemy.text("DELETE FROM canopy_prediction WHERE key = ANY(:keys)"),
    sqlalchemy.text("DELETE FROM canopy_stage WHERE key = ANY(:keys)"),
    sqlalchemy.text("""
        DELETE FROM canopy_validation WHERE digest NOT IN (SELECT validation FROM canopy_prediction)
    """),
]
_CONFIRMED_BY = sqlalchemy.text("""
    SELECT study_name FROM canopy_confirmation JOIN studies ON confirmed_by = studies.study_id
    WHERE canopy_confirmation.study_id = :study_id
""")
_OPTUNA_TABLES = [
    table for table in BaseModel.metadata.sorted_tables if table.name != "trial_heartbeats"
]
_ROWS_AT_ONCE = 5_000


@dataclass(frozen=True)
class Usage:
    """Whose a study is, and what it takes.

    Attributes:
        name: of the study.
        owner: the user who started it; None if that was not recorded.
        control: see `storage.workers.control`.
        trained_s: training and validation time, in seconds.
        stored_bytes: of its checkpoints and predictions; what studies share counts for each.
        changed: when it was started, launched or trained last; None if only plain Optuna wrote it.
    """

    name: str
    owner: str | None
    control: str
    trained_s: float
    stored_bytes: int
    changed: datetime | None


@dataclass(frozen=True)
class Belongings:
    """What a study would take along.

    Attributes:
        studies: its name, and that of the study that confirms it.
        trials: number of trials of these.
        stages: keys of the recorded epochs that no other study refers to.
    """

    studies: tuple[str, ...]
    trials: int
    stages: tuple[str, ...]


class StudyCatalogue:
    """The studies of a database.

    A method that takes the name of a study raises UnknownStudyError if there is none, and, if it
    changes something, StudyBusyError while workers search it.

    Args:
        database: an open one.
    """

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._store = StudyStore(database)

    def usage(self) -> list[Usage]:
        """Returns all studies, sorted by name."""
        with self._engine.connect() as connection:
            return [Usage(*row) for row in connection.execute(_USAGE, {"run": RUN})]

    def belongings(self, name: str) -> Belongings:
        """Returns what would go with a study."""
        study_id = self._store.study_id(name)
        with self._engine.connect() as connection:
            names = (name, *connection.scalars(_CONFIRMED_BY, {"study_id": study_id}))
        with self._locked(*names) as (connection, ids):
            trials = sqlalchemy.select(sqlalchemy.func.count()).where(TRIALS.c.study_id.in_(ids))
            keys = connection.scalars(_OWN_STAGES, {"studies": ids})
            return Belongings(names, connection.execute(trials).scalar_one(), tuple(keys))

    def remove(self, belongings: Belongings) -> None:
        """Removes a study with all that goes with it; its checkpoints are left to the caller."""
        with self._locked(*belongings.studies) as (connection, ids):
            trials = sqlalchemy.select(TRIALS.c.trial_id).where(TRIALS.c.study_id.in_(ids))
            # Our own rows go with the trials and studies that they refer to.
            for table in reversed(BaseModel.metadata.sorted_tables):
                if "trial_id" in table.c and "study_id" not in table.c:
                    connection.execute(table.delete().where(table.c.trial_id.in_(trials)))
                elif "study_id" in table.c:
                    connection.execute(table.delete().where(table.c.study_id.in_(ids)))
            keys = {"keys": list(belongings.stages)}
            for forget in _FORGET_STAGES:
                connection.execute(forget, keys)

    def rename(self, name: str, new_name: str) -> None:
        """Gives a study another name.

        Raises:
            StudyExistsError: there is a study of that name.
        """
        try:
            with self._locked(name) as (connection, [study_id]):
                update = sqlalchemy.update(STUDIES).where(STUDIES.c.study_id == study_id)
                connection.execute(update.values(study_name=new_name))
        except IntegrityError as error:
            raise _exists(new_name) from error

    def archive(self, name: str) -> list[str]:
        """Hides a study that Canopy started from lists, and keeps it as it is.

        Returns:
            Keys of the recorded epochs that no other study refers to.
        """
        with self._locked(name) as (connection, [study_id]):
            mine = STUDY.c.study_id == study_id
            connection.execute(sqlalchemy.update(STUDY).where(mine).values(control=ARCHIVED))
            return list(connection.scalars(_OWN_STAGES, {"studies": [study_id]}))

    def restore(self, name: str) -> None:
        """Takes a study out of the archive, if it is there."""
        with self._locked(name) as (connection, [study_id]):
            mine = (STUDY.c.study_id == study_id) & (STUDY.c.control == ARCHIVED)
            connection.execute(sqlalchemy.update(STUDY).where(mine).values(control=RUN))

    def copy(self, name: str, new_name: str, target: Database) -> None:
        """Copies a study with its trials and epochs, and to another database its stages, too.

        Neither its confirmation nor its tasks in ClearML go along.

        Args:
            name: of the study.
            new_name: of the copy.
            target: an open database, this one or another one.

        Raises:
            StudyExistsError: there is a study of that name.
        """
        with self._locked(name) as (source, [study_id]):
            rows = _read(source, study_id)
            stages = _read_stages(source, study_id) if target.engine is not self._engine else {}
        try:
            with target.engine.begin() as connection:
                _write(connection, new_name, rows, stages)
        except IntegrityError as error:
            raise _exists(new_name) from error

    @contextmanager
    def _locked(self, *names: str) -> Iterator[tuple[sqlalchemy.Connection, list[int]]]:
        """Yields a transaction, and the ids of studies that no worker can join before its end."""
        ids = [self._store.study_id(name) for name in names]
        lock = sqlalchemy.select(STUDIES.c.study_id).where(STUDIES.c.study_id.in_(ids))
        with self._engine.begin() as connection:
            connection.execute(lock.with_for_update())
            for name in names:
                living = [each for each in list_workers(connection, name) if each.is_living]
                if living:
                    raise StudyBusyError(
                        f"study {name!r} is being searched by process {living[0].pid} on "
                        f"{living[0].host}; stop it first, with Ctrl-C there or with: canopy stop"
                    )
            yield connection, ids


Rows = Mapping[sqlalchemy.Table, Sequence[Mapping[str, Any]]]


def _read(connection: sqlalchemy.Connection, study_id: int) -> Rows:
    """Returns the rows of a study: Optuna's, then ours."""
    trials = sqlalchemy.select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id)
    found = {}
    for table in [*_OPTUNA_TABLES, STUDY, TRIAL, EPOCH, TEST]:
        if "study_id" in table.c:
            query = sqlalchemy.select(table).where(table.c.study_id == study_id)
        elif "trial_id" in table.c:
            query = sqlalchemy.select(table).where(table.c.trial_id.in_(trials))
        else:
            continue
        key = next(iter(table.primary_key))
        found[table] = [dict(row) for row in connection.execute(query.order_by(key)).mappings()]
    return found


def _read_stages(connection: sqlalchemy.Connection, study_id: int) -> Rows:
    """Returns the recorded epochs that a study refers to, with their predictions."""
    keys = (
        sqlalchemy.select(EPOCH.c.stage)
        .join(TRIALS, TRIALS.c.trial_id == EPOCH.c.trial_id)
        .where(TRIALS.c.study_id == study_id)
    )
    stages = sqlalchemy.select(STAGE).where(STAGE.c.key.in_(keys))
    predictions = sqlalchemy.select(PREDICTION).where(PREDICTION.c.key.in_(keys))
    sets = sqlalchemy.select(VALIDATION).where(
        VALIDATION.c.digest.in_(predictions.with_only_columns(PREDICTION.c.validation))
    )
    parts = {STAGE: stages, VALIDATION: sets, PREDICTION: predictions}
    return {
        table: [dict(row) for row in connection.execute(query).mappings()]
        for table, query in parts.items()
    }


def _write(connection: sqlalchemy.Connection, new_name: str, rows: Rows, stages: Rows) -> None:
    """Writes the rows of a study under new ids, and its stages under their keys."""
    study_table, trial_table = (BaseModel.metadata.tables[name] for name in ("studies", "trials"))
    insert = study_table.insert().values(study_name=new_name).returning(study_table.c.study_id)
    study_id = connection.execute(insert).scalar_one()
    insert = trial_table.insert().returning(trial_table.c.trial_id)
    trial_ids: dict[int, int] = {}
    for row in rows[trial_table]:
        values = {name: value for name, value in row.items() if name != "trial_id"}
        new_id = connection.execute(insert, {**values, "study_id": study_id}).scalar_one()
        trial_ids[row["trial_id"]] = new_id
    for table, found in rows.items():
        if table in {study_table, trial_table} or not found:
            continue
        # Optuna numbers its rows itself; ours are known by what they refer to.
        own_number = {key.name for key in table.primary_key} - {"study_id", "trial_id", "epoch"}
        new = [{k: v for k, v in row.items() if k not in own_number} for row in found]
        for row in new:
            if "trial_id" in row:
                row["trial_id"] = trial_ids[row["trial_id"]]
            else:
                row["study_id"] = study_id
        if table is TRIAL:  # no worker holds the copy's trials, and none has read them
            new = [{**row, "worker": None, "changed": 0} for row in new]
        if table is STUDY:
            new = [{**row, "control": RUN} for row in new]
        _insert(connection, table.insert(), new)
    for table, found in stages.items():
        new = [dict(row) for row in found]
        if table is STAGE:
            new = [{**row, "trial_id": trial_ids.get(row["trial_id"])} for row in new]
        _insert(connection, postgresql.insert(table).on_conflict_do_nothing(), new)


def _insert(
    connection: sqlalchemy.Connection, insert: sqlalchemy.Insert, rows: list[dict[str, Any]]
) -> None:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        connection.execute(insert, rows[start : start + _ROWS_AT_ONCE])


def _exists(name: str) -> StudyExistsError:
    return StudyExistsError(f"there is a study {name!r} already; choose another name")
