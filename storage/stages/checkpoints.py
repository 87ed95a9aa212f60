"""Checkpoints under a byte budget: which there are, whether they are whole, which go first."""

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
from canopy_search.storage.stages.eviction import (
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
"""Of a disk we take a quarter of what is free, and no more than this anywhere by default."""

_LOCK_KEY = int.from_bytes(b"canopyCK")

REMOVAL_S = 180.0
"""Who removes a file has as long as this, in seconds, before somebody else writes it anew; a call
to a place that does not answer ends earlier."""
_MARKER_S = 300.0
_POLL_S = 0.1


# Nobody can read it and nobody writes it: its file is being removed, or a crash left that to us.
_IS_DOOMED = CHECKPOINT.c.digest.is_(None) & CHECKPOINT.c.worker.is_(None)


@dataclass(frozen=True)
class Collected:
    """What a collection removed.

    Attributes:
        orphans: files that no record names.
        lost: records whose file is missing, of another size, or was never completed.
        evicted: checkpoints beyond the budget.
        freed_bytes: size of all files removed.
    """

    orphans: int
    lost: int
    evicted: int
    freed_bytes: int


class CheckpointStore:
    """The checkpoints of one place, as one worker sees them.

    Args:
        database: an opened one.
        files: where they lie.
        worker: number of this process's session.
        budget_bytes: what all of them may take; None for a default from the free disk.
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
        """Where the checkpoints lie, in words."""
        return self._files.place

    @cached_property
    def place_id(self) -> str:
        """The id that is kept beside the files.

        Raises:
            OSError: the place cannot be written to.
        """
        known = self._files.read_marker()
        if known is not None:
            return known
        # One worker at a time, or there would be two ids. The place has just answered, and this is
        # done once in its life; the server bears with the transaction for as long as it can take.
        # A lock without a transaction is no way, because poolers share sessions out.
        patience_ms = int(1000 * _MARKER_S)
        with self._locked() as connection:
            connection.exec_driver_sql(
                f"SET LOCAL idle_in_transaction_session_timeout = {patience_ms}"
            )
            return self._files.read_marker() or self._files.make_marker()

    @cached_property
    def budget_bytes(self) -> int:
        """What all checkpoints of the place may take together."""
        if self._given_budget is not None:
            return self._given_budget
        free = self._files.free_bytes()
        if free is None:
            return LARGEST_DEFAULT_BYTES
        return min(LARGEST_DEFAULT_BYTES, self.device_bytes() + int(FREE_SHARE * free))

    def device_bytes(self) -> int:
        """Returns what the checkpoints of the place take now, those being written included."""
        query = self._held_query()
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def entries(self) -> list[Checkpoint]:
        """Returns all recorded checkpoints, the one that goes first first."""
        place = self.place_id
        with self._engine.connect() as connection:
            return entries_by_priority(connection, place)

    def write(self, key: str, content: bytes, *, is_end: bool) -> None:
        """Writes and records a checkpoint, and makes room for it.

        Args:
            key: of the stage that it is the state after.
            content: its bytes.
            is_end: whether its run ends with this stage.

        Raises:
            CheckpointBudgetError: what is there is worth more; nothing is written then.
            OSError: the place cannot be written to; nothing is recorded then.
        """
        try:
            while (going := self._reserve(key, len(content), is_end=is_end)) is None:
                time.sleep(_POLL_S)
            self._remove(going, _IS_DOOMED)
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
        """Takes back that this worker is about to write a checkpoint."""
        mine = CHECKPOINT.c.digest.is_(None) & (CHECKPOINT.c.worker == self._worker)
        self._forget(self._is(key) & mine)

    def find(self, keys: Sequence[str]) -> dict[str, bool]:
        """Returns which of these stages have a checkpoint here.

        Returns:
            Key → whether it is whole; one that is not is being written by a living worker.
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
        """Returns a checkpoint that is what was written.

        Raises:
            CheckpointMissError: it is missing, truncated or altered; its record is gone then.
            OSError: the place cannot be read now.
        """
        query = sqlalchemy.update(CHECKPOINT).where(self._is(key))
        query = query.values(used=sqlalchemy.func.now())
        with self._engine.begin() as connection:
            row = connection.execute(query.returning(CHECKPOINT.c.size, CHECKPOINT.c.digest))
            recorded = row.first()
        if recorded is None or recorded.digest is None:
            raise CheckpointMissError("it was removed meanwhile")
        same = CHECKPOINT.c.digest == recorded.digest
        try:
            content = self._files.read(key)
        except (FileNotFoundError, IsADirectoryError):
            self._forget(self._is(key) & same)
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
        """Removes checkpoints that nobody needs any more.

        Raises:
            OSError: the place cannot be written to.
        """
        self._remove(keys, sqlalchemy.true())

    def collect(self, budget_bytes: int | None = None, *, dry_run: bool = False) -> Collected:
        """Removes what no record names, what records name in vain, and what exceeds the budget.

        What others write meanwhile is left alone.

        Args:
            budget_bytes: another budget than the store's, once.
            dry_run: only count.

        Raises:
            OSError: the place cannot be read or written to.
        """
        budget = self.budget_bytes if budget_bytes is None else budget_bytes
        # A file is recorded before it is there, and may come or go between these looks.
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

    def _reserve(self, key: str, size: int, *, is_end: bool) -> list[str] | None:
        """Records that `size` bytes are about to be written.

        Returns:
            What has to be removed before; nobody can read it any more, and it counts until then.
            None if somebody removes the file of this key at the moment; nothing is recorded then.
        """
        # Looked up before the lock is held, for they need a connection of their own.
        place, budget = self.place_id, self.budget_bytes
        with self._locked() as connection:
            held = int(connection.execute(self._held_query(besides=key)).scalar_one())
            excess = held + size - budget
            entries = entries_by_priority(connection, place) if excess > 0 else []
            others = [entry for entry in entries if entry.key != key]
            going = candidates(
                others, excess, EvictionPriority.END if is_end else EvictionPriority.SHARED_PREFIX
            )
            if sum(entry.size for entry in going) < excess:
                raise CheckpointBudgetError(
                    f"{size / MIB:,.2f} MiB find no room in {budget / MIB:,.2f} MiB beside what is "
                    "worth more; raise stages.budget_gib"
                )
            if not self._record_begun(connection, key, size, is_end=is_end):
                return None
            gone = CHECKPOINT.c.key.in_([entry.key for entry in going])
            update = sqlalchemy.update(CHECKPOINT).where(self._is_here(), gone)
            connection.execute(update.values(digest=None, worker=None))
        return [entry.key for entry in going]

    def _record_begun(
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
            where=~_IS_DOOMED | (CHECKPOINT.c.used < oldest),
        )
        return connection.execute(insert.returning(CHECKPOINT.c.key)).first() is not None

    @contextmanager
    def _locked(self) -> Iterator[sqlalchemy.Connection]:
        """One worker at a time decides about room."""
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LOCK_KEY)))
            yield connection

    def _remove(self, keys: Sequence[str], where: sqlalchemy.ColumnElement[bool]) -> None:
        """Removes those of some checkpoints whose record is as `where` says.

        First nobody can read it any more, then its file goes, then its record. No transaction
        waits for a file: who wants to write it anew sees by the record that it is being removed.
        """
        for key in keys:
            doom = sqlalchemy.update(CHECKPOINT).where(self._is(key), where)
            doom = doom.values(digest=None, worker=None, used=sqlalchemy.func.clock_timestamp())
            with self._engine.begin() as connection:
                doomed = connection.scalars(doom.returning(CHECKPOINT.c.used)).first()
            if doomed is None:
                continue
            # Unless somebody else has taken it on meanwhile.
            mine = self._is(key) & _IS_DOOMED & (CHECKPOINT.c.used == doomed)
            try:
                self._files.remove(key)
            except BaseException:
                long_ago = sqlalchemy.update(CHECKPOINT).where(mine)
                with self._engine.begin() as connection:
                    connection.execute(long_ago.values(used=sqlalchemy.func.to_timestamp(0)))
                raise
            self._forget(mine)

    def _forget(self, rows: sqlalchemy.ColumnElement[bool]) -> None:
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.delete(CHECKPOINT).where(rows))

    def _held_query(self, besides: str = "") -> sqlalchemy.Select[int]:
        total = sqlalchemy.func.coalesce(sqlalchemy.func.sum(CHECKPOINT.c.size), 0)
        return sqlalchemy.select(total).where(self._is_here(), CHECKPOINT.c.key != besides)

    def _is(self, key: str) -> sqlalchemy.ColumnElement[bool]:
        return self._is_here() & (CHECKPOINT.c.key == key)

    def _is_here(self) -> sqlalchemy.ColumnElement[bool]:
        return CHECKPOINT.c.place == self.place_id
