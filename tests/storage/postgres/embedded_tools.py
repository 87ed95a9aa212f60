"""Embedded servers to look into and to do harm to."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import sqlalchemy

from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.postgres.postmaster import find_postmaster, is_alive

MakeServer = Callable[[Path], EmbeddedPostgres]


def ask(server: EmbeddedPostgres, statement: str) -> object:
    engine = sqlalchemy.create_engine(server.url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return result.scalar() if result.returns_rows else None


def postmaster(data: Path) -> psutil.Process:
    found = find_postmaster(data)
    assert found is not None
    return found


def kill_all(data: Path) -> None:
    found = postmaster(data)
    processes = [found, *found.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    while any(is_alive(process) for process in processes):
        time.sleep(0.01)


LOCK_FILES = ("postmaster.pid", ".s.PGSQL.5432.lock")


def record_pid(data: Path, pid: int, names: tuple[str, ...] = LOCK_FILES) -> None:
    """Makes the server's lock files name another process, as after a reboot."""
    for name in names:
        file = data / name
        _, rest = file.read_text().split("\n", 1)
        file.write_text(f"{pid}\n{rest}")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)
