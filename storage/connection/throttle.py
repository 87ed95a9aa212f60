"""Closes each connection after use if the server has few left."""

import threading
import time
from contextlib import suppress
from typing import Any

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.filestore.retry import Retrier, RetryPolicy, Service
from canopy_search.storage.connection.urls import is_too_many_connections

KEEP_OPEN_SHARE = 0.5
"""Workers keep connections open up to this share of those that the server allows."""
REOPEN_SHARE = 0.4
"""At this share or less, workers that closed their connections keep them open again."""
REFUSED_S = 300.0
"""A worker that was refused a connection because there were too many keeps none for this long."""

_LINGER_S = 0.2
_RETRY_POLICY = RetryPolicy(limit_s=10.0, longest_pause_s=0.5)
_SERVER = Service("the database", is_too_many_connections)


class ConnectionThrottle:
    """Whether one process keeps its connections open, or closes them after use.

    A server accepts a limited number of connections and refuses all others. Near that limit, a
    connection is closed a moment after its last use, and a process that is refused retries: other
    processes close theirs, too.

    Attributes:
        is_throttled: whether connections are closed after use.
    """

    def __init__(self) -> None:
        self.is_throttled = False
        self._engine: sqlalchemy.Engine | None = None
        self._refused_s: float | None = None
        self._is_idle = False
        self._returned = threading.Event()
        self._thread: threading.Thread | None = None
        self._retrier = Retrier(_RETRY_POLICY, _SERVER, revive=self._on_refusal)

    @property
    def was_refused(self) -> bool:
        """Whether the server recently refused us a connection."""
        return self._refused_s is not None and time.monotonic() - self._refused_s < REFUSED_S

    def manage(self, engine: sqlalchemy.Engine) -> None:
        """Closes the one connection of an engine after use, while this is throttled."""
        self.retry_refused(engine)
        self._engine = engine
        sqlalchemy.event.listen(engine, "checkout", self._on_checkout)
        sqlalchemy.event.listen(engine, "checkin", self._on_checkin)

    def retry_refused(self, engine: sqlalchemy.Engine) -> None:
        """Lets an engine retry for a moment if the server has no connection left."""
        sqlalchemy.event.listen(engine, "do_connect", self._connect)

    def release_when_idle(self) -> None:
        """Closes connections after use from now on."""
        self.is_throttled = True
        if self._is_idle:
            self._close_soon()

    def keep_open(self) -> None:
        """Keeps connections open again."""
        self.is_throttled = False

    def _connect(self, dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        return self._retrier.call(lambda: dialect.connect(*arguments, **options))

    def _on_refusal(self) -> None:
        self._refused_s = time.monotonic()
        self.release_when_idle()

    def _on_checkout(self, *_details: object) -> None:
        self._is_idle = False

    def _on_checkin(self, connection: object, _record: object) -> None:
        self._is_idle = connection is not None
        if self.is_throttled and self._is_idle:
            self._close_soon()

    def _close_soon(self) -> None:
        if self._thread is None and self._engine is not None:
            # Closing at once would need a new connection for each step of one decision.
            self._thread = threading.Thread(target=self._work, name="canopy throttle", daemon=True)
            self._thread.start()
        self._returned.set()

    def _work(self) -> None:
        while True:
            self._returned.wait()
            self._returned.clear()
            time.sleep(_LINGER_S)
            if self.is_throttled and self._is_idle and self._engine is not None:
                # Another thread may take it first; then it is closed after that use.
                with suppress(SQLAlchemyError), self._engine.connect() as connection:
                    if self.is_throttled:
                        connection.detach()
