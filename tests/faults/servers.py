"""A Postgres to do harm to."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import sqlalchemy

from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.postgres.postmaster import find_postmaster
from tests.faults.searching import wait_until
from tests.shared_servers import execute


class Server:
    """One server, that a test stops and starts.

    Args:
        folder: of its data; that of a state folder's embedded server is ``postgres`` in it.
    """

    def __init__(self, folder: Path) -> None:
        self.postgres = EmbeddedPostgres(folder)
        self.data = folder / "data"

    @property
    def url(self) -> str:
        return self.postgres.url.render_as_string(hide_password=False)

    def start(self) -> None:
        self.postgres.start()

    def postmaster(self) -> psutil.Process:
        process = find_postmaster(self.data)
        assert process is not None
        return process

    def stop_at_once(self) -> None:
        """Stops it as ``pg_ctl stop -m immediate`` does."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kills its postmaster; the others notice by themselves."""
        self._end(signal.SIGKILL)

    def kill_all(self) -> None:
        """Kills all of its processes, as a machine that loses power does."""
        postmaster = self.postmaster()
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            process.kill()
        psutil.wait_procs(family)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        return execute(self.postgres.url, statement)

    def restart_with(self, **settings: object) -> None:
        """Restarts it with other settings."""
        for name, value in settings.items():
            self.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.postgres.stop()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        postmaster = self.postmaster()
        family = [postmaster, *postmaster.children(recursive=True)]
        postmaster.send_signal(how)
        wait_until(lambda: find_postmaster(self.data) is None, "the server ends")
        # Whoever starts the next one would have to wait for them.
        psutil.wait_procs(family)


def terminate_backends(url: str, *, share: float = 1.0) -> int:
    """Cuts the workers' connections; returns how many.

    Args:
        url: of the database.
        share: of the connections, chosen at random.
    """
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    cut = sqlalchemy.text("""
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < :share
    """)
    with engine.connect() as connection:
        return int(connection.execute(cut, {"share": share}).scalar_one())


def again_and_again(do: Callable[[], object], every_s: float, times: int) -> None:
    """Does something so many times, as often as that."""
    for _ in range(times):
        do()
        time.sleep(every_s)
