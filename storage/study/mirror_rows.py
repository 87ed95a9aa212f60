"""What was mirrored to a tracker's server, and which of several mirrors is active."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.storage.connection.urls import connect_options, is_pooled
from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import CLEARML_STUDY, CLEARML_TASK

STUDY_TASK = -1
"""The number of the study's own task, in place of a trial number."""

_TRY_LOCK = sqlalchemy.text("SELECT pg_try_advisory_lock(:key)")
_TRY_LOCK_FOR_TRANSACTION = sqlalchemy.text("SELECT pg_try_advisory_xact_lock(:key)")
_UNLOCK = sqlalchemy.text("SELECT pg_advisory_unlock(:key)")
_ALIVE = sqlalchemy.text("SELECT 1")


@dataclass
class MirroredTask:
    """What a server has acknowledged of one task.

    Attributes:
        number: of the trial; `STUDY_TASK` for the study's own.
        task: its id on the server; None before it is created, and after the user deleted it.
        state: the state that was sent last.
        epochs: number of epochs whose scalars it has.
        lines: number of lines of its console log.
        lines_unsure: whether more lines may have arrived than were acknowledged.
        sent: what else was sent: digests of its parts, its tags.
        problem: why nothing more is sent to it, if so.
    """

    number: int
    task: str | None = None
    state: str | None = None
    epochs: int = 0
    lines: int = 0
    lines_unsure: bool = False
    sent: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class MirrorState:
    """The state of a study's mirror on a server.

    Attributes:
        server: address of the server, without credentials.
        project: id of the study's project there.
        web: address of its pages, if known.
        api_version: of the server.
        problem: what is wrong, if anything.
        since: when the problem started.
    """

    server: str
    project: str | None = None
    web: str | None = None
    api_version: str | None = None
    problem: str | None = None
    since: datetime | None = None


class MirrorStore:
    """The recorded state of the mirror of one study on one server.

    Args:
        database: an open one.
        study_id: the database's id of the study.
        server: address of the server, without credentials.
    """

    def __init__(self, database: Database, study_id: int, server: str) -> None:
        self._engine = database.engine
        self._url = database.url
        self.study_id = study_id
        self.server = server
        self._key = {"study_id": study_id, "server": server}

    def read_state(self) -> MirrorState:
        """Returns the state of the mirror."""
        where = [CLEARML_STUDY.c[name] == value for name, value in self._key.items()]
        with self._engine.connect() as connection:
            row = connection.execute(sqlalchemy.select(CLEARML_STUDY).where(*where)).first()
        return MirrorState(self.server) if row is None else _state(row)

    def write_state(self, **values: Any) -> None:
        """Changes recorded fields of `MirrorState`."""
        changes = {**values, "used": sqlalchemy.func.now()}
        insert = postgresql.insert(CLEARML_STUDY).values(**self._key, **changes)
        update = insert.on_conflict_do_update(index_elements=list(self._key), set_=changes)
        with self._engine.begin() as connection:
            connection.execute(update)

    def write_problem(self, problem: str | None) -> None:
        """Records a problem, and its start unless it was already recorded."""
        before = self.read_state().problem
        if before != problem:
            now = sqlalchemy.func.now()
            self.write_state(problem=problem, since=None if problem is None else now)

    def read_tasks(self) -> dict[int, MirroredTask]:
        """Returns what was sent of each task, by trial number."""
        with self._engine.connect() as connection:
            return _read_tasks(connection, self.study_id, self.server)

    def write_task(self, task: MirroredTask) -> None:
        """Records what a server has acknowledged of a task."""
        values = {name: value for name, value in vars(task).items() if name != "number"}
        insert = postgresql.insert(CLEARML_TASK).values(**self._key, number=task.number, **values)
        update = insert.on_conflict_do_update(index_elements=[*self._key, "number"], set_=values)
        with self._engine.begin() as connection:
            connection.execute(update)

    @contextmanager
    def turn(self) -> Iterator[Callable[[], bool]]:
        """Yields a function that returns whether this mirror is the active one, or becomes it now.

        The turn is a lock on a connection of its own: it ends with the process or the connection,
        and then the next mirror that asks has it. Behind a pooler it is the lock of a transaction
        that stays open, because between transactions the connection serves other clients.
        """
        key = _lock_key(self.study_id, self.server)
        engine = sqlalchemy.create_engine(
            self._url,
            poolclass=sqlalchemy.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=connect_options(self._url, "canopy mirror"),
        )
        connection: sqlalchemy.Connection | None = None

        def drop() -> None:
            nonlocal connection
            before, connection = connection, None
            if before is not None:
                with suppress(SQLAlchemyError):
                    before.invalidate()
                    before.close()

        def is_mine() -> bool:
            nonlocal connection
            try:
                if connection is not None:
                    connection.execute(_ALIVE)
                    return True
                connection = engine.connect()
                has_turn = _lock(connection, key)
            except SQLAlchemyError:
                drop()
                raise
            if not has_turn:
                drop()
            return has_turn

        try:
            yield is_mine
        finally:
            if connection is not None:
                with suppress(SQLAlchemyError):
                    connection.execute(_UNLOCK, {"key": key})
            drop()
            engine.dispose()


def _lock(connection: sqlalchemy.Connection, key: int) -> bool:
    """Takes a lock that ends with the connection; returns whether it was free."""
    if not is_pooled(connection):
        return bool(connection.scalar(_TRY_LOCK, {"key": key}))
    connection.exec_driver_sql("BEGIN")
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    return bool(connection.scalar(_TRY_LOCK_FOR_TRANSACTION, {"key": key}))


def read_mirrors(
    connection: sqlalchemy.Connection, study_id: int
) -> list[tuple[MirrorState, dict[int, MirroredTask]]]:
    """Returns the mirrors of a study with what each has sent, the last used first."""
    query = (
        sqlalchemy.select(CLEARML_STUDY)
        .where(CLEARML_STUDY.c.study_id == study_id)
        .order_by(CLEARML_STUDY.c.used.desc())
    )
    states = [_state(row) for row in connection.execute(query)]
    return [(state, _read_tasks(connection, study_id, state.server)) for state in states]


def _read_tasks(
    connection: sqlalchemy.Connection, study_id: int, server: str
) -> dict[int, MirroredTask]:
    columns = [column for column in CLEARML_TASK.c if column.name not in {"study_id", "server"}]
    query = sqlalchemy.select(*columns).where(
        CLEARML_TASK.c.study_id == study_id, CLEARML_TASK.c.server == server
    )
    return {row.number: MirroredTask(**row._mapping) for row in connection.execute(query)}


def _state(row: sqlalchemy.Row[Any]) -> MirrorState:
    names = MirrorState.__dataclass_fields__
    return MirrorState(**{name: row._mapping[name] for name in names})


def _lock_key(study_id: int, server: str) -> int:
    digest = hashlib.sha256(f"canopy mirror {study_id} {server}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
