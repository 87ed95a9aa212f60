"""A workspace: the state folder and the database of all commands and workers that share it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from canopy_search.filestore.retry import Retrier, RetryPolicy
from canopy_search.storage.connection.retry import DATABASE
from canopy_search.storage.database import (
    Database,
    embedded_postgres,
    open_database,
    open_existing_database,
)
from canopy_search.storage.errors import EmbeddedPostgresError


@dataclass(frozen=True)
class Workspace:
    """Where a process keeps its state, and for how long it waits for the database there.

    It can be pickled, and is handed to other processes whole.

    Attributes:
        home: the state folder; contains the embedded server's data, too.
        url: of the database, its password included; None or blank for the embedded server.
        retry: how long to wait for an unavailable database.
    """

    home: Path
    url: str | None = field(default=None, repr=False)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def open(self) -> Database:
        """Opens the database for writing; see `open_database`."""
        return open_database(self.home, self.url)

    def open_existing(self) -> Database:
        """Opens the database for reading; see `open_existing_database`."""
        return open_existing_database(self.home, self.url)

    def retrier(self, note: Callable[[str], None] = lambda _text: None) -> Retrier:
        """Returns what repeats calls while the database is unavailable.

        Args:
            note: gets messages for the user.
        """
        return Retrier(self.retry, DATABASE, note=note, revive=self._revive)

    def _revive(self) -> None:
        """Restarts the embedded server if it died; does nothing for another server."""
        if not (self.url and self.url.strip()):
            with suppress(EmbeddedPostgresError):
                embedded_postgres(self.home).start()
