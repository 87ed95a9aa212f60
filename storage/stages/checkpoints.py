"""Checkpoints under a byte budget: recording, verifying, evicting."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import sqlalchemy
from sqlalchemy.dialects import postgresql

from canopy_search.storage.database import Database
from canopy_search.storage.errors import CheckpointBudgetError, CheckpointMissError
from canopy_search.storage.schema.tables import CHECKPOINT
from canopy_search.storage.stages.checkpoint_files import SUFFIX, CheckpointFiles, digest_of
from canopy_search.storage.stages.eviction_order import (
    Checkpoint,
    EvictionPriority,
    candidates,
    entries_by_priority,
)
from canopy_search.storage.workers.registry import LIVING

GIB = 2**30
MIB = 2**20
FREE_SHARE = 0.25
LARGEST_DEFAULT_BYTES = 100 * GIB
"""By default a quarter of a disk's free space, and no more than this anywhere."""

_LOCK_KEY = int.from_bytes(b"canopyCK")

REMOVAL_S = 180.0
"""A removal may take this long, in seconds, before another worker writes the file anew; a call
without an answer ends earlier."""
_MARKER_S = 300.0
_POLL_S = 0.1


# No worker can read or write it: its file is being removed, or a crash interrupted that.
_IS_BEING_REMOVED = CHECKPOINT.c.digest.is_(None) & CHECKPOINT.c.worker.is_(None)


@dataclass(frozen=True)
class Collected:
    """What a garbage collection removed.

    Attributes:
        orphans: files without a record.
        lost: records whose file is missing, has another size, or was never completed.
        evicted: checkpoints beyond the budget.
        freed_bytes: size of all files removed.
    """

    orphans: int
    lost: int
    evicted: int
    freed_bytes: int


class CheckpointStore:
    """The checkpoints at one location, for one worker.

    Args:
        database: an open one.
        files: the checkpoint files.
        worker: id of this process's session.
        budget_bytes: of all checkpoints together; None for a default from the free disk space.
    """

    def __init__(
        self,
        database: Database,
        files: CheckpointFiles,
        worker: int,
        budget_bytes: int | None = None,
    ) -> None:
        self._engine = database.engine
        self._files = files
        self._worker = worker
        self._given_budget = budget_bytes

    @property
    def place(self) -> str:
        """The location of the checkpoints, for messages."""
        return self._files.place

    @cached_property
    def place_id(self) -> str:
        """The id that is stored next to the files.

        Raises:
            OSError: the location cannot be written to.
        """
        known = self._files.read_marker()
        if known is not None:
            return known
        # One worker at a time, or there would be two ids. The location has just answered, and this
        # is done once; the server allows the transaction as much time as it can take. A session
        # lock would not work, because poolers share sessions.
        timeout_ms = int(1000 * _MARKER_S)
        with self._locked() as connection:
            connection.exec_driver_sql(
                f"SET LOCAL idle_in_transaction_session_timeout = {timeout_ms}"
            )
            return self._files.read_marker() or self._files.make_marker()

    @cached_property
    def budget_bytes(self) -> int:
        """The budget of all checkpoints at this location together."""
        if self._given_budget is not None:
            return self._given_budget
        free = self._files.free_bytes()
        if free is None:
            return LARGEST_DEFAULT_BYTES
        return min(LARGEST_DEFAULT_BYTES, self.stored_bytes() + int(FREE_SHARE * free))

    def stored_bytes(self) -> int:
        """Returns the size of all checkpoints at this location, those being written included."""
        query = self._size_query()
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def entries(self) -> list[Checkpoint]:
        """Returns all recorded checkpoints in the order of eviction."""
        place = self.place_id
        with self._engine.connect() as connection:
            return entries_by_priority(connection, place)

    def write(self, key: str, content: bytes, *, is_end: bool) -> None:
        """Writes and records a checkpoint, and evicts others to make room.

        Args:
            key: of the stage after which it was saved.
            content: its bytes.
            is_end: whether its run ends with this stage.

        Raises:
            CheckpointBudgetError: the others have a higher priority; nothing is written then.
            OSError: the location cannot be written to; nothing is recorded then.
        """
        try:
            while (evicted := self._evict_and_reserve(key, len(content), is_end=is_end)) is None:
                time.sleep(_POLL_S)
            self._remove(evicted, _IS_BEING_REMOVED)
            self._files.write(key, content)
        except BaseException:
            self.give_up(key)
            raise
        values = {"digest": digest_of(content), "worker": None, "used": sqlalchemy.func.now()}
        mine = CHECKPOINT.c.worker == self._worker
        update = sqlalchemy.update(CHECKPOINT).where(self._is(key), mine).values(values)
        with self._engine.begin() as connection:
            connection.execute(update)

    def close(self) -> None:
        """Closes the connections to the files."""
        self._files.close()

    def give_up(self, key: str) -> None:
        """Withdraws this worker's announcement that it writes a checkpoint."""
        mine = CHECKPOINT.c.digest.is_(None) & (CHECKPOINT.c.worker == self._worker)
        self._delete_records(self._is(key) & mine)

    def find(self, keys: Sequence[str]) -> dict[str, bool]:
        """Returns which of these stages have a checkpoint here.

        Returns:
            Key → whether it is complete; others are being written by a live worker.
        """
        rows = sqlalchemy.text(f"""
            SELECT key, digest IS NOT NULL FROM canopy_checkpoint
            WHERE place = :place AND key = ANY(:keys)
              AND (digest IS NOT NULL OR worker IN ({LIVING}))
        """)  # noqa: S608 - our own text
        values = {"place": self.place_id, "keys": list(keys)}
        with self._engine.connect() as connection:
            return {key: bool(is_whole) for key, is_whole in connection.execute(rows, values)}

    def read(self, key: str) -> bytes:
        """Returns a checkpoint after verifying its digest.

        Raises:
            CheckpointMissError: it is missing, truncated or altered; its record is removed then.
            OSError: the location cannot be read now.
        """
        query = sqlalchemy.update(CHECKPOINT).where(self._is(key))
        query = query.values(used=sqlalchemy.func.now())
        with self._engine.begin() as connection:
            row = connection.execute(query.returning(CHECKPOINT.c.size, CHECKPOINT.c.digest))
            recorded = row.first()
        if recorded is None or recorded.digest is None:
            raise CheckpointMissError("it was removed in the meantime")
        same = CHECKPOINT.c.digest == recorded.digest
        try:
            content = self._files.read(key)
        except (FileNotFoundError, IsADirectoryError):
            self._delete_records(self._is(key) & same)
            raise CheckpointMissError("its file is missing") from None
        if len(content) != recorded.size:
            reason = f"it has {len(content):,} bytes, and {recorded.size:,} were written"
        elif digest_of(content) != recorded.digest:
            reason = "its bytes were changed since it was written"
        else:
            return content
        self._remove([key], same)
        raise CheckpointMissError(reason)

    def discard(self, keys: Sequence[str]) -> None:
        """Removes checkpoints that are no longer needed.

        Raises:
            OSError: the location cannot be written to.
        """
        self._remove(keys, sqlalchemy.true())

    def collect(self, budget_bytes: int | None = None, *, dry_run: bool = False) -> Collected:
        """Removes files without a record, records without a file, and what exceeds the budget.

        Files that others write at the same time are left alone.

        Args:
            budget_bytes: in place of the store's budget, for this call.
            dry_run: only count.

        Raises:
            OSError: the location cannot be read or written to.
        """
        budget = self.budget_bytes if budget_bytes is None else budget_bytes
        # A file is recorded before it exists, and may appear or disappear between these reads.
        entries = self.entries()
        names = self._files.names()
        recorded = {entry.key for entry in [*entries, *self.entries()]}
        writing = {
            e.key for e in entries if not e.is_whole and e.priority is EvictionPriority.RUNNING
        }
        orphans = [
            name
            for name in names
            if (key := name.partition(".")[0]) not in recorded
            or (name != f"{key}{SUFFIX}" and key not in writing)
        ]
        rest = [
            entry
            for entry in entries
            if entry.key in writing
            or (entry.is_whole and names.get(f"{entry.key}{SUFFIX}") == entry.size)
        ]
        lost = [entry for entry in entries if entry not in rest]
        evicted = candidates(
            rest, sum(entry.size for entry in rest) - budget, EvictionPriority.SHARED_PREFIX
        )
        removed = [*lost, *evicted]
        gone = [*orphans, *(f"{entry.key}{SUFFIX}" for entry in removed)]
        if not dry_run:
            for name in orphans:
                self._files.remove_name(name)
            for entry in removed:
                self._remove([entry.key], CHECKPOINT.c.used == entry.used)
        freed = sum(names.get(name, 0) for name in gone)
        return Collected(len(orphans), len(lost), len(evicted), freed)

    def _evict_and_reserve(self, key: str, size: int, *, is_end: bool) -> list[str] | None:
        """Records that `size` bytes are about to be written.

        Returns:
            Keys to remove first; they cannot be read any more, and count until they are removed.
            None if another worker is removing the file of this key; nothing is recorded then.
        """
        # Looked up before the lock is held, because they need a connection of their own.
        place, budget = self.place_id, self.budget_bytes
        with self._locked() as connection:
            stored = int(connection.execute(self._size_query(except_key=key)).scalar_one())
            excess = stored + size - budget
            entries = entries_by_priority(connection, place) if excess > 0 else []
            others = [entry for entry in entries if entry.key != key]
            evicted = candidates(
                others, excess, EvictionPriority.END if is_end else EvictionPriority.SHARED_PREFIX
            )
            if sum(entry.size for entry in evicted) < excess:
                raise CheckpointBudgetError(
                    f"{size / MIB:,.2f} MiB do not fit into the budget of {budget / MIB:,.2f} MiB, "
                    "and the other checkpoints have a higher priority; raise stages.budget_gib"
                )
            if not self._record_start(connection, key, size, is_end=is_end):
                return None
            is_evicted = CHECKPOINT.c.key.in_([entry.key for entry in evicted])
            update = sqlalchemy.update(CHECKPOINT).where(self._is_here(), is_evicted)
            connection.execute(update.values(digest=None, worker=None))
        return [entry.key for entry in evicted]

    def _record_start(
        self, connection: sqlalchemy.Connection, key: str, size: int, *, is_end: bool
    ) -> bool:
        values = {
            "size": size,
            "digest": None,
            "worker": self._worker,
            "is_end": is_end,
            "used": sqlalchemy.func.now(),
        }
        insert = postgresql.insert(CHECKPOINT).values(place=self.place_id, key=key, **values)
        oldest = sqlalchemy.func.now() - timedelta(seconds=REMOVAL_S)
        insert = insert.on_conflict_do_update(
            index_elements=[CHECKPOINT.c.place, CHECKPOINT.c.key],
            set_=values,
            where=~_IS_BEING_REMOVED | (CHECKPOINT.c.used < oldest),
        )
        return connection.execute(insert.returning(CHECKPOINT.c.key)).first() is not None

    @contextmanager
    def _locked(self) -> Iterator[sqlalchemy.Connection]:
        """Lets one worker at a time change the budget's use."""
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LOCK_KEY)))
            yield connection

    def _remove(self, keys: Sequence[str], where: sqlalchemy.ColumnElement[bool]) -> None:
        """Removes those of the checkpoints whose record matches `where`.

        First the record is marked, so that it cannot be read, then the file is removed, then the
        record. No transaction waits for a file: the mark tells other writers about the removal.
        """
        for key in keys:
            mark = sqlalchemy.update(CHECKPOINT).where(self._is(key), where)
            mark = mark.values(digest=None, worker=None, used=sqlalchemy.func.clock_timestamp())
            with self._engine.begin() as connection:
                marked = connection.scalars(mark.returning(CHECKPOINT.c.used)).first()
            if marked is None:
                continue
            # Unless another worker has started to write it in the meantime.
            mine = self._is(key) & _IS_BEING_REMOVED & (CHECKPOINT.c.used == marked)
            try:
                self._files.remove(key)
            except BaseException:
                long_ago = sqlalchemy.update(CHECKPOINT).where(mine)
                with self._engine.begin() as connection:
                    connection.execute(long_ago.values(used=sqlalchemy.func.to_timestamp(0)))
                raise
            self._delete_records(mine)

    def _delete_records(self, rows: sqlalchemy.ColumnElement[bool]) -> None:
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.delete(CHECKPOINT).where(rows))

    def _size_query(self, except_key: str = "") -> sqlalchemy.Select[int]:
        total = sqlalchemy.func.coalesce(sqlalchemy.func.sum(CHECKPOINT.c.size), 0)
        return sqlalchemy.select(total).where(self._is_here(), CHECKPOINT.c.key != except_key)

    def _is(self, key: str) -> sqlalchemy.ColumnElement[bool]:
        return self._is_here() & (CHECKPOINT.c.key == key)

    def _is_here(self) -> sqlalchemy.ColumnElement[bool]:
        return CHECKPOINT.c.place == self.place_id
