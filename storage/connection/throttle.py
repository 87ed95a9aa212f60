"""Connections where they are scarce: each is closed as soon as its process does not use it."""

import random
import threading
import time
from contextlib import suppress
from typing import Any

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.storage.connection.urls import is_refused_for_number

KEEP_OPEN_SHARE = 0.5
"""Workers hold connections while these are no larger a part of all that the server allows."""
TAKEN_AGAIN_SHARE = 0.4
"""Where they are this part or less, workers that gave theirs back hold them again."""
REFUSED_S = 300.0
"""Whoever was refused a connection because there were too many holds none for as long."""

_LINGER_S = 0.2
_QUEUE_S = 10.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5


class ConnectionThrottle:
    """Whether one process holds its connections, or takes them for as long as it needs them.

    A server lets so many in and refuses all others. Where that is near, a connection is closed a
    moment after its last use, and whoever is refused stands in the queue: connections of others
    are free in a moment, too.

    Attributes:
        is_short: whether connections are closed after use.
    """

    def __init__(self) -> None:
        self.is_short = False
        self._engine: sqlalchemy.Engine | None = None
        self._refused_s: float | None = None
        self._is_idle = False
        self._returned = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def was_refused(self) -> bool:
        """Whether the server had no connection for us a short time ago."""
        return self._refused_s is not None and time.monotonic() - self._refused_s < REFUSED_S

    def govern(self, engine: sqlalchemy.Engine) -> None:
        """Lets the one connection of an engine be closed after use while that is wanted."""
        self.queue_for(engine)
        self._engine = engine
        sqlalchemy.event.listen(engine, "checkout", self._on_checkout)
        sqlalchemy.event.listen(engine, "checkin", self._on_checkin)

    def queue_for(self, engine: sqlalchemy.Engine) -> None:
        """Lets an engine wait for a moment where the server has no connection for it."""
        sqlalchemy.event.listen(engine, "do_connect", self._connect)

    def release_when_idle(self) -> None:
        """Holds no connection from now on."""
        self.is_short = True
        if self._is_idle:
            self._close_soon()

    def keep_open(self) -> None:
        """Holds connections again."""
        self.is_short = False

    def _connect(self, dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        until_s = time.monotonic() + _QUEUE_S
        pause_s = _SHORTEST_PAUSE_S
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if not is_refused_for_number(error):
                    raise
                self._refused_s = time.monotonic()
                self.release_when_idle()
                if time.monotonic() > until_s:
                    raise
            time.sleep(random.uniform(0.5, 1) * pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 1.5 * pause_s)

    def _on_checkout(self, *_details: object) -> None:
        self._is_idle = False

    def _on_checkin(self, connection: object, _record: object) -> None:
        self._is_idle = connection is not None
        if self.is_short and self._is_idle:
            self._close_soon()

    def _close_soon(self) -> None:
        if self._thread is None and self._engine is not None:
            # Closing at once would cost a new connection for each step of one decision.
            self._thread = threading.Thread(target=self._work, name="canopy thrift", daemon=True)
            self._thread.start()
        self._returned.set()

    def _work(self) -> None:
        while True:
            self._returned.wait()
            self._returned.clear()
            time.sleep(_LINGER_S)
            if self.is_short and self._is_idle and self._engine is not None:
                # Somebody else may take it meanwhile; it is closed when he has done.
                with suppress(SQLAlchemyError), self._engine.connect() as connection:
                    if self.is_short:
                        connection.detach()
